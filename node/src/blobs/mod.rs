//! Content: files and pictures.

pub mod image;
