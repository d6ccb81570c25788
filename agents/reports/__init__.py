"""What a run tells: report, tables, pictures, TensorBoard charts."""
