"""What a text says of a rule: a small strict parser, no judge."""
