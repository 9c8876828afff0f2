//! Tests of the configuration as a whole: folders that change under it, and the samples that are shipped.

mod changes;
mod samples;
