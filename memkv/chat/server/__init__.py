"""`memkv serve`: the OpenAI protocol, the memory API, and the page, over one model and one store."""
