"""Do codecs choose what the field's reference implementation chooses? `python -m eval.parity.kvpress_parity`."""
