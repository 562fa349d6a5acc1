"""Running programs: from lists to items, over devices and processes, to results with a record."""
