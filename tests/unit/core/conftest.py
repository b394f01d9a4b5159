import hypothesis

# How long an example takes says something of the machine and nothing of the core.
hypothesis.settings.register_profile("core", deadline=None)
hypothesis.settings.load_profile("core")
