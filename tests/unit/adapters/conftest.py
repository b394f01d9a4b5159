import pytest

# pytest explains failed asserts in test modules by itself, in a suite that they import only when told.
pytest.register_assert_rewrite("tests.conformance.object_store")
