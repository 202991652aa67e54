//! A relay as a process of its own.
