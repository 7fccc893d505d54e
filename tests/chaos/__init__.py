"""What is thrown at prunus: `make chaos` runs all of it, ``tests/whole/test_chaos_*.py`` a small part."""
