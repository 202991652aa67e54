//! Pairings that work, and everything that must burn the code.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{
    Confirmed, GrantPayload, MAX_GRANT, NewStep, OldStep, PairError, PairFrame, PairNew, PairOld,
    Sas, VERSION,
};
use crate::account::testing::{device, key, wire_holds};
use crate::account::{device_consent, verify_device_consent};
use crate::card::LinkSecret;
use crate::codec::{List, Wire, encode};
use crate::ids::AccountId;
use crate::link::PairCode;
use crate::sign::Signature;

const ACCOUNT: AccountId = AccountId([8; 32]);
const OLD: u8 = 1;
const NEW: u8 = 2;
const THIRD: u8 = 3;

fn old(seed: u64) -> (PairOld, PairCode) {
    let old = PairOld::new(device(OLD), ACCOUNT, &mut ChaCha20Rng::seed_from_u64(seed));
    let code = old.code(List::default());
    (old, code)
}

fn new(code: &PairCode, n: u8, seed: u64) -> (PairNew, PairFrame) {
    PairNew::new(code, device(n), &mut ChaCha20Rng::seed_from_u64(seed ^ 0xffff))
}

fn sent(step: OldStep) -> PairFrame {
    match step {
        OldStep::Send(frame) => frame,
        OldStep::Compare(_) | OldStep::Named(_) => panic!("no frame"),
    }
}

fn revealed(step: NewStep) -> (PairFrame, Sas) {
    match step {
        NewStep::Compare { send, sas, account } => {
            assert_eq!(account, ACCOUNT);
            (send, sas)
        }
        other => panic!("{other:?}"),
    }
}

/// Both sides up to the digits.
fn compared(seed: u64) -> (PairOld, PairNew, Sas, Sas) {
    let (mut o, code) = old(seed);
    let (mut n, hello) = new(&code, NEW, seed);
    let challenge = sent(o.receive(&device(NEW), &hello).unwrap());
    let (reveal, new_sas) = revealed(n.receive(&device(OLD), &challenge, &key(NEW)).unwrap());
    let OldStep::Compare(old_sas) = o.receive(&device(NEW), &reveal).unwrap() else {
        panic!("no digits")
    };
    (o, n, old_sas, new_sas)
}

fn payload() -> GrantPayload {
    b"welcome".to_vec().try_into().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn honest_sides_agree(seed: u64, user_first: bool) {
        let (mut o, mut n, a, b) = compared(seed);
        prop_assert_eq!(a, b);
        prop_assert_eq!(a.to_string().replace(' ', "").parse::<u32>().unwrap(), a.number());
        prop_assert_eq!(a.to_string().len(), 7);
        let Confirmed { device: added, consent } = o.confirm(true).unwrap();
        prop_assert_eq!(added, device(NEW));
        prop_assert!(verify_device_consent(&ACCOUNT, &added, &consent).is_ok());
        let grant = o.grant(payload()).unwrap();
        if user_first {
            prop_assert_eq!(n.confirm(true), Ok(None));
            let step = n.receive(&device(OLD), &grant, &key(NEW));
            prop_assert_eq!(step, Ok(NewStep::Granted(payload())));
        } else {
            let step = n.receive(&device(OLD), &grant, &key(NEW));
            prop_assert_eq!(step, Ok(NewStep::Waiting));
            prop_assert_eq!(n.confirm(true), Ok(Some(payload())));
        }
        prop_assert_eq!(o.grant(payload()), Err(PairError::Burnt));
        prop_assert_eq!(n.confirm(true), Err(PairError::Burnt));
    }

    /// Somebody who has seen the code sits between the two, each believing to talk to
    /// the right account. The digits differ (but for one in a million).
    #[test]
    fn a_middle_shows_other_digits(seed: u64) {
        let (mut o, code) = old(seed);
        // To the old device the middle is a new one with its own key.
        let (mut towards_old, hello) = new(&code, THIRD, seed ^ 1);
        let challenge = sent(o.receive(&device(THIRD), &hello).unwrap());
        let (reveal, _) = revealed(towards_old.receive(&device(OLD), &challenge, &key(THIRD)).unwrap());
        let OldStep::Compare(old_sas) = o.receive(&device(THIRD), &reveal).unwrap() else {
            panic!("no digits")
        };
        // To the new device it is the old one, with its own code for its own key.
        let mut towards_new =
            PairOld::new(device(THIRD), ACCOUNT, &mut ChaCha20Rng::seed_from_u64(seed ^ 2));
        towards_new.secret = code.secret.clone();
        let (mut n, hello) = new(&towards_new.code(List::default()), NEW, seed);
        let challenge = sent(towards_new.receive(&device(NEW), &hello).unwrap());
        let (_, new_sas) = revealed(n.receive(&device(THIRD), &challenge, &key(NEW)).unwrap());
        prop_assert_ne!(old_sas, new_sas);
    }

    #[test]
    fn frames_have_one_encoding(a: [u8; 32], b: [u8; 32], grant in prop::collection::vec(any::<u8>(), 0..80)) {
        wire_holds(&PairFrame::Hello {
            version: VERSION, device: device(NEW), commitment: a, proof: b,
        });
        wire_holds(&PairFrame::Challenge { account: ACCOUNT, nonce: a, proof: b });
        wire_holds(&PairFrame::Reveal { nonce: a, consent: Signature([7; 64]) });
        wire_holds(&PairFrame::Grant { payload: grant.try_into().unwrap() });
        wire_holds(&PairFrame::Abort);
        wire_holds(&PairFrame::Name { name: "laptop".try_into().unwrap() });
    }
}

#[test]
fn the_largest_grant_fits() {
    let payload = vec![0; MAX_GRANT].try_into().unwrap();
    assert_eq!(encode(&PairFrame::Grant { payload }).len(), PairFrame::MAX_BYTES);
}

#[test]
fn one_wrong_guess_burns_the_code() {
    let (mut o, code) = old(1);
    let mut guess = code.clone();
    guess.secret = LinkSecret([0; 16]);
    let (_, hello) = new(&guess, THIRD, 1);
    assert_eq!(o.receive(&device(THIRD), &hello), Err(PairError::BadProof));
    let (_, honest) = new(&code, NEW, 1);
    assert_eq!(o.receive(&device(NEW), &honest), Err(PairError::Burnt));
}

#[test]
fn an_overheard_hello_is_useless_to_others() {
    let (mut o, code) = old(1);
    let (_, hello) = new(&code, NEW, 1);
    assert_eq!(o.receive(&device(THIRD), &hello), Err(PairError::BadProof));
}

#[test]
fn a_hello_must_name_its_sender() {
    let (mut o, code) = old(1);
    let (_, hello) = new(&code, NEW, 1);
    let PairFrame::Hello { version, commitment, proof, .. } = hello else { panic!("no hello") };
    let hello = PairFrame::Hello { version, device: device(THIRD), commitment, proof };
    assert_eq!(o.receive(&device(NEW), &hello), Err(PairError::BadProof));
}

#[test]
fn third_devices_don_t_disturb() {
    let (mut o, code) = old(1);
    let (mut n, hello) = new(&code, NEW, 1);
    let challenge = sent(o.receive(&device(NEW), &hello).unwrap());
    assert_eq!(o.receive(&device(THIRD), &hello), Err(PairError::OtherDevice));
    assert_eq!(
        n.receive(&device(THIRD), &PairFrame::Abort, &key(NEW)),
        Err(PairError::OtherDevice)
    );
    let (reveal, _) = revealed(n.receive(&device(OLD), &challenge, &key(NEW)).unwrap());
    assert!(o.receive(&device(NEW), &reveal).is_ok());
}

#[test]
fn other_nonces_and_others_consent_are_refused() {
    for change in 0..4 {
        let (mut o, code) = old(1);
        let (mut n, hello) = new(&code, NEW, 1);
        let challenge = sent(o.receive(&device(NEW), &hello).unwrap());
        let (reveal, _) = revealed(n.receive(&device(OLD), &challenge, &key(NEW)).unwrap());
        let PairFrame::Reveal { mut nonce, mut consent } = reveal else { panic!("no reveal") };
        match change {
            0 => nonce[0] ^= 1,
            1 => consent = device_consent(&ACCOUNT, &key(THIRD)),
            2 => consent = device_consent(&AccountId([9; 32]), &key(NEW)),
            _ => {}
        }
        let step = o.receive(&device(NEW), &PairFrame::Reveal { nonce, consent });
        if change == 3 {
            assert!(matches!(step, Ok(OldStep::Compare(_))));
        } else {
            assert_eq!(step, Err(PairError::BadProof));
            assert_eq!(o.confirm(true), Err(PairError::Burnt));
        }
    }
}

#[test]
fn a_challenge_without_the_secret_is_refused() {
    for field in 0..3 {
        let (mut o, code) = old(1);
        let (mut n, hello) = new(&code, NEW, 1);
        let PairFrame::Challenge { mut account, mut nonce, mut proof } =
            sent(o.receive(&device(NEW), &hello).unwrap())
        else {
            panic!("no challenge")
        };
        [&mut account.0, &mut nonce, &mut proof][field][5] ^= 4;
        let forged = PairFrame::Challenge { account, nonce, proof };
        assert_eq!(n.receive(&device(OLD), &forged, &key(NEW)), Err(PairError::BadProof));
        assert_eq!(n.confirm(true), Err(PairError::Burnt));
    }
}

#[test]
fn nothing_is_granted_before_both_users_agree() {
    let (mut o, ..) = compared(1);
    assert_eq!(o.grant(payload()), Err(PairError::OutOfOrder));
    assert_eq!(o.confirm(true), Err(PairError::Burnt));

    let (mut o, mut n, ..) = compared(2);
    assert_eq!(o.confirm(false), Err(PairError::Aborted));
    assert_eq!(o.grant(payload()), Err(PairError::Burnt));
    let grant = PairFrame::Grant { payload: payload() };
    assert_eq!(n.receive(&device(OLD), &grant, &key(NEW)), Ok(NewStep::Waiting));
    assert_eq!(n.confirm(false), Err(PairError::Aborted));
    assert_eq!(n.confirm(true), Err(PairError::Burnt));

    let (_, mut n, ..) = compared(3);
    assert_eq!(n.receive(&device(OLD), &PairFrame::Abort, &key(NEW)), Err(PairError::Aborted));
    assert_eq!(n.receive(&device(OLD), &grant, &key(NEW)), Err(PairError::Burnt));
}

#[test]
fn a_name_changes_nothing_but_the_name() {
    let name = PairFrame::Name { name: "laptop".try_into().unwrap() };
    let (mut o, ..) = compared(1);
    let named = OldStep::Named("laptop".try_into().unwrap());
    assert_eq!(o.receive(&device(THIRD), &name), Err(PairError::OtherDevice));
    assert_eq!(o.receive(&device(NEW), &name), Ok(named));
    assert!(o.confirm(true).is_ok());
    // Before the device has shown that it may speak, and after it was let in, it burns.
    let (mut o, code) = old(2);
    assert_eq!(o.receive(&device(NEW), &name), Err(PairError::OutOfOrder));
    assert_eq!(o.receive(&device(NEW), &new(&code, NEW, 2).1), Err(PairError::Burnt));
}

#[test]
fn frames_out_of_order_burn() {
    let grant = PairFrame::Grant { payload: payload() };
    let (mut o, code) = old(1);
    assert_eq!(o.receive(&device(NEW), &grant), Err(PairError::OutOfOrder));
    assert_eq!(o.receive(&device(NEW), &new(&code, NEW, 1).1), Err(PairError::Burnt));
    let (mut n, _) = new(&code, NEW, 1);
    assert_eq!(n.receive(&device(OLD), &grant, &key(NEW)), Err(PairError::OutOfOrder));
    // A grant that comes twice.
    let (_, mut n, ..) = compared(1);
    assert_eq!(n.receive(&device(OLD), &grant, &key(NEW)), Ok(NewStep::Waiting));
    assert_eq!(n.receive(&device(OLD), &grant, &key(NEW)), Err(PairError::OutOfOrder));
    assert_eq!(n.confirm(true), Err(PairError::Burnt));
}
