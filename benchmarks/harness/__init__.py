"""What the benchmark scripts share: scenes, clocks, tables, and the other programs that are measured."""
