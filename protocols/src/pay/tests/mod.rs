//! Tests of the rules of money.

mod forms;
mod keys;
mod lanes;
mod receipts;
mod samples;
