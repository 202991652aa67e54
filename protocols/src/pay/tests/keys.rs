//! Keys and signatures of which careless verifiers disagree are refused for all that is signed
//! about money.

use data_encoding::HEXLOWER;

use crate::account::testing::{device, key};
use crate::ids::DeviceId;
use crate::pay::Voucher;
use crate::sign::{Domain, Signable, Signature, Signed, sign, verify};

/// What is signed about money.
const DOMAINS: [Domain; 17] = [
    Domain::ASSET,
    Domain::OFFER,
    Domain::PRODUCT,
    Domain::PAYMENT_ORDER,
    Domain::OUTCOME,
    Domain::REFUND,
    Domain::CHANNEL_REQUEST,
    Domain::CHANNEL,
    Domain::VOUCHER,
    Domain::VOUCHER_ACK,
    Domain::VOUCHER_REFUSAL,
    Domain::CREDIT,
    Domain::FREEZE_REQUEST,
    Domain::FREEZE,
    Domain::RELEASE,
    Domain::STATEMENT,
    Domain::TRANSFER_ANSWER,
];

/// By `key(1)` over `teahouse`, for each of [`DOMAINS`]: R has a point of small order added to
/// it, and S fits that. The equation holds once it is multiplied by the cofactor, so verifiers
/// that do so accept these; others don't.
const TWISTED: [&str; 17] = [
    "43bf4dbddceb8295752867a11f2db334f1aa7e7d52ceef0e5c0710f10f2957e7\
     6f09001b8f30487fcaca95373b7cc14c360ccdf084b3c6ab471a2e5b69f62a05",
    "e997096a7f84c228f33d1ef5848d8723b2ea4b12b43b3fda0f98636a69d464cd\
     994fdb8a25071be9564dc57447774d65e766b6af9f64094ac546453c17a6a706",
    "5ac3a2f2ec1792c27ac1109e1cd74e03cfce4f9569cf6a5d7b10a14ae32d99ba\
     943155c47f0a8f262cfa17b50e8d31701a3d33e6b5dcf04871d68dc2f924fe0a",
    "c1fab99ab44e37f8fa2088964ee92bc21acf46cd3244fe9d203fb601b0ea0d22\
     cce083584ddfac68ba8e3069f32dbf24f0859982b0e653261f2da04129a95605",
    "583a2574a43fc67183554486b0a19afbda2418b3b9203f11d7e2ed80f33dc533\
     8797b092b5d86dfbb3d4c6b56c090698501879c02bef94ab2f346d09539eba08",
    "ce2cbe65847736f01e7646ddd5ed5b57be5b124cbf6bbd6462498ff36045833b\
     2ae343616346e7ae7ea578d314efaf6c1d25d126e26699a449f654dd17983c0f",
    "17d07f2c6c03068d51ad343c3067d300e05e19f5950a1ee2d60d2c0c9937cbac\
     9cb537927ad965d0875d87a2e901def44b021613d607aafdd56d9e3a446d4a09",
    "139f40d7af3c2a70b389c2ab04414af60b0b94347af9a45c80e37a4d35f746d2\
     f59b764b8c8308a5cbc01293f9f5d3f386298e6a2672c05b7246aa4b50c6c60d",
    "2e661272fdaff463025c0304a39e125c5540b3c02b809c40c93773fcde70a055\
     bb3e2de3ab8ae59836e117ce23186e5bb8d8e0906dc594876080c2f0c4f8180a",
    "4a83abc03003c671983ddce8ef19095f0125eb24e63f574630d7d59a9efba7a1\
     5104665549e3aa779442df097cfb4ccebdedf5deaaf3934665d9189abd800109",
    "a96ba01b324e7f20ea6eb8647930cba7e930c7a23eabd71c7940faa6324e2510\
     408affe6cc582032d540b6967f0b73657f79b9eca59439a7c6d0f898a2208207",
    "bad36afca18f1e8597b60b6f1b1dfb3fe787a6694d96503d124793c8d6a6aec8\
     abde5000bf466df8cd38078de777fe3055e0ecd2a6b91cf64c0893be599efd0a",
    "f40df3f3fee3711a838849e314199e707acd4d9044650c8dff521ab4e931ba1a\
     8c1beb094de6a4578cad7fad1abeaf1e0d1383e8e254a257c347583e51c1ce06",
    "80a68a78134a1c3bc69036571e69968371f88150fb7a04b6de9ee997f959e119\
     1d4fd48cde717334cab6851f5bc42941c9e581a5d2b94e2f56e15f8a4a7b0601",
    "8f811fd2d0b603cda5522dd1fd0de8cdff6e0d84636751aae5a84d586132a405\
     e7df851da2afc1411f2ecb701f5069d39202287fcefd24682bd69375be1a0a05",
    "56435b87b93bd5e5342baf4911abf0b10c5575e1841f32125fce71f2df56b257\
     390f76623bce029570bc3952389c693ab4d025f5b5c89021b2f3eebf2232b303",
    "a0528e863e94e9c0fb745b01b7903028456e8a140fd266856dafdf4bffbe7479\
     c63ff59413aa3cead360eac24fdd097625e9e5bc472fac356bf3141ef69b360f",
];

/// The eight points of small order.
const SMALL: [&str; 8] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
];

fn hex<const N: usize>(text: &str) -> [u8; N] {
    HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
}

#[test]
fn twisted_signatures_are_refused() {
    for (domain, twisted) in DOMAINS.iter().zip(TWISTED) {
        let good = sign(*domain, &key(1), b"teahouse");
        verify(*domain, &device(1).0, b"teahouse", &good).unwrap();
        let twisted = Signature(hex(twisted));
        assert_ne!(twisted, good);
        assert!(verify(*domain, &device(1).0, b"teahouse", &twisted).is_err(), "{}", domain.0);
    }
}

#[test]
fn keys_of_small_order_are_refused() {
    for domain in DOMAINS {
        for public in SMALL {
            for r in SMALL {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(&hex::<32>(r));
                let signature = Signature(signature);
                let verdict = verify(domain, &hex(public), b"teahouse", &signature);
                assert!(verdict.is_err(), "{}: {public} {r}", domain.0);
            }
        }
    }
}

#[test]
fn each_form_has_a_purpose_of_its_own() {
    let all: std::collections::BTreeSet<&str> = DOMAINS.iter().map(|d| d.0).collect();
    assert_eq!(all.len(), DOMAINS.len());
    let voucher = super::samples::plain_voucher(
        super::samples::channel(9).get(),
        1,
        5,
        crate::ids::VoucherId([0; 32]),
    );
    let payload = crate::codec::encode(&voucher);
    for domain in Domain::ALL {
        let signature = sign(*domain, &key(21), &payload);
        let wire = postcard::to_stdvec(&(&payload[..], signature)).unwrap();
        let read = Signed::<Voucher>::from_bytes(&wire);
        assert_eq!(read.is_ok(), *domain == Voucher::DOMAIN, "{}", domain.0);
    }
    // A voucher that names a key of small order as its lane.
    for public in SMALL {
        let weak = Voucher { lane: DeviceId(hex(public)), ..voucher.clone() };
        let payload = crate::codec::encode(&weak);
        for r in SMALL {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&hex::<32>(r));
            let wire = postcard::to_stdvec(&(&payload[..], Signature(signature))).unwrap();
            assert!(Signed::<Voucher>::from_bytes(&wire).is_err());
        }
    }
}
