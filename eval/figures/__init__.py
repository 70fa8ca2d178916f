"""From rows to figures: tables of probes, bootstrap, calibration, costs."""
