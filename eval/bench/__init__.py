"""What memkv must reach, measured side by side with what it is compared to: `python -m eval.bench`."""
