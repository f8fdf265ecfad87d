"""Tags for stored pictures: Parquet in and out, in parts that can be resumed, through a served Triton."""
