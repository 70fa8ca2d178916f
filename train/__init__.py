"""Training mains: they import `eval` and `memkv`; nothing imports them."""
