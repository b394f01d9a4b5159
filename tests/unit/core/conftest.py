import os

import hypothesis

# How long an example takes says something of the machine and nothing of the core. The examples are the same each time,
# so that a red run is about the change; HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis.settings.register_profile("core", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "core"))
