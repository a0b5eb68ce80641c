//! Synthetic districts.
