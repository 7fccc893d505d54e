"""What is thrown at prunus: `make chaos` runs all of it, ``tests/test_chaos_*.py`` a small seeded part."""
