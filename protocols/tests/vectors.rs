//! Test vectors for every wire form, for other implementations.
//!
//! Everything is built from fixed keys and fixed randomness and compared with the files in
//! `protocols/vectors/`, so a wire form can't change unnoticed. With `TEAHOUSE_BLESS=1` the
//! files are written instead, and with them the seeds of the fuzz targets in
//! `protocols/fuzz/corpus/`.
//!
//! In the files, bytes are lower-case hexadecimal and private keys are ed25519 seeds
//! (RFC 8032). `wire` is what is sent; a case with `refused` must not be accepted, for the
//! kind of reason given. Structs are written by their field names, in wire order.

// Helpers of tests, which clippy doesn't know for tests outside `#[test]` functions.
#![allow(clippy::unwrap_used)]

#[path = "vectors/content.rs"]
mod content;
#[path = "vectors/identity.rs"]
mod identity;
#[path = "vectors/json.rs"]
mod json;
#[path = "vectors/logs.rs"]
mod logs;
#[path = "vectors/moments.rs"]
mod moments;
#[path = "vectors/pay.rs"]
mod pay;
#[path = "vectors/programs.rs"]
mod programs;
#[path = "vectors/samples.rs"]
mod samples;
#[path = "vectors/suite.rs"]
mod suite;
#[path = "vectors/topics.rs"]
mod topics;
#[path = "vectors/transport.rs"]
mod transport;

macro_rules! files {
    ($($module:ident::$name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            $module::$name().finish();
        }
    )*};
}

files! {
    identity::words,
    identity::domains,
    identity::account_record,
    identity::prekey_bundle,
    identity::contact_card,
    identity::links,
    identity::safety_number,
    logs::account_fold,
    logs::membership_record,
    logs::membership_evaluation,
    topics::epoch,
    topics::envelope,
    topics::cursor,
    content::content,
    transport::inbox,
    transport::sync,
    transport::mailbox,
    transport::topic_mail,
    transport::pairing,
    moments::photos,
    moments::words_on_posts,
    pay::pay_forms,
    pay::pay_receipt,
    pay::pay_frames,
    programs::program_packages,
    programs::program_frames,
    programs::program_calls,
}
