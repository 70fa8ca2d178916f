"""Running cells: plan, processes, rows that resume, where they came from."""
