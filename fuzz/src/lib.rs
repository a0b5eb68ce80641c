//! What the fuzz targets run. The same checks replay the corpora in the test command, on any toolchain.

pub mod checks;
