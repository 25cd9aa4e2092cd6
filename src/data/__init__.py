"""The data sets, held in memory, and the batches cut from them."""
