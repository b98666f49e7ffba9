//! ESP against what others computed.

use super::common::{End, pair};
use stack::aead::{Opener, Sealer};
use stack::control::{EspIntegrity, EspSuite, KeyBytes};

fn hex(s: &str) -> Vec<u8> {
    hex::decode(s).unwrap()
}

/// draft-mcgrew-gcm-test-01 section 4, the cases with a 16-octet ICV of the key sizes that RFC 8221 asks for. Their IVs are
/// no sequence numbers, so they are opened, not sealed.
#[test]
fn gcm_test_cases_of_the_draft() {
    let esn_packet = hex(concat!(
        "00004321",
        "00000000",
        "4956ed7e3b244cfe",
        "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34",
        "cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce",
        "61bc17d768fd9732",
        "459018148f6cbe722fd04796562dfdb4"
    ));
    let plain = concat!(
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000",
        "00000000045f736970045f756470037369700963796265726369747902646b00",
        "0021000101020201"
    );
    let opener =
        Opener::new(EspSuite::AesGcm16 { key_bits: 128 }, &hex("4c80cdefbb5d10da906ac73c3613a6342e443b68"))
            .unwrap();
    let mut p = esn_packet.clone();
    opener.open(&mut p, Some(0x8765_4321)).unwrap();
    assert_eq!(hex::encode(&p[16..p.len() - 16]), plain);
    assert!(
        opener.open(&mut esn_packet.clone(), Some(0x8765_4320)).is_err(),
        "the high half is authenticated"
    );
    assert!(opener.open(&mut esn_packet.clone(), None).is_err());

    let mut p = hex(concat!(
        "4a2cbfe3",
        "00000002",
        "0102030405060708",
        "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763",
        "748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c49",
        "15956c96"
    ));
    let key = hex("abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344");
    let opener = Opener::new(EspSuite::AesGcm16 { key_bits: 256 }, &key).unwrap();
    opener.open(&mut p, None).unwrap();
    let plain = "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201";
    assert_eq!(hex::encode(&p[16..p.len() - 16]), plain);
}

/// RFC 3602 section 4 case 5 is a whole ESP packet with AES-CBC (and no integrity): its key, IV and plaintext must give
/// its ciphertext. Here the ICV is appended by hand.
#[test]
fn cbc_ciphertext_of_rfc_3602_case_5() {
    let key = hex("90d382b410eeba7ad938c46cec1a82bf");
    let esp = hex(concat!(
        "00004321",
        "00000001",
        "e96e8c08ab465763fd098d45dd3ff893",
        "f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856",
        "a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874a",
        "a269add047ad2d5913ac19b7cfbad4a6"
    ));
    let plain = concat!(
        "08000ebda70a0000",
        "8e9c083db95b0700",
        "08090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "202122232425262728292a2b2c2d2e2f3031323334353637",
        "0102030405060708090a0b0c0d0e0e01"
    );
    let suite = EspSuite::AesCbc { key_bits: 128, integrity: EspIntegrity::HmacSha256 };
    let opener = Opener::new(suite, &[key.as_slice(), &[9; 32]].concat()).unwrap();
    let mac = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[9; 32]), &esp);
    let mut p = [esp.as_slice(), &mac.as_ref()[..16]].concat();
    opener.open(&mut p, None).unwrap();
    assert_eq!(hex::encode(&p[24..p.len() - 16]), plain);
}

struct Case {
    suite: EspSuite,
    esn: bool,
    sequence: u64,
    spi: u32,
    key: Vec<u8>,
    inner: Vec<u8>,
    packet: Vec<u8>,
}

fn scapy() -> Vec<Case> {
    let parse = |line: &str| {
        let f: Vec<&str> = line.split(' ').collect();
        let number = |s: &str| u64::from_str_radix(s.trim_start_matches("0x"), 16).unwrap();
        let integrity = match f[1] {
            "SHA2-256-128" => EspIntegrity::HmacSha256,
            "SHA2-384-192" => EspIntegrity::HmacSha384,
            "HMAC-SHA1-96" => EspIntegrity::HmacSha1,
            _ => EspIntegrity::HmacSha512,
        };
        let key_bits = f[0][3..].parse().unwrap();
        Case {
            suite: match &f[0][..3] {
                "gcm" => EspSuite::AesGcm16 { key_bits },
                "gma" => EspSuite::AesGmac { key_bits },
                "ctr" => EspSuite::AesCtr { key_bits, integrity },
                "cha" => EspSuite::ChaCha20Poly1305,
                "nul" => EspSuite::Null { integrity },
                _ => EspSuite::AesCbc { key_bits, integrity },
            },
            esn: f[2] == "esn",
            sequence: number(f[3]),
            spi: u32::try_from(number(f[4])).unwrap(),
            key: hex(f[5]),
            inner: hex(f[6]),
            packet: hex(f[7]),
        }
    };
    include_str!("esp_scapy.txt").lines().filter(|l| !l.starts_with('#')).map(parse).collect()
}

#[test]
fn scapy_and_we_make_the_same_packets() {
    let cases = scapy();
    assert_eq!(cases.len(), 114);
    for c in cases {
        let mut ours = pair(c.suite);
        (ours.esn, ours.spi_out, ours.key_out) = (c.esn, c.spi, KeyBytes(c.key.clone()));
        let (mut a, mut b) = End::both(ours);
        a.sa().resume(c.sequence, 0);
        b.sa().resume(1, c.sequence - 1);
        let name = format!("{:?} esn {} sequence {:#x}", c.suite, c.esn, c.sequence);
        assert_eq!(hex::encode(a.seal(&c.inner)), hex::encode(&c.packet), "{name}");
        assert_eq!(b.open_copy(&c.packet).as_deref(), Ok(c.inner.as_slice()), "{name}");
        assert_eq!(b.sa().sequence_numbers().1, c.sequence);
    }
}

#[test]
fn keys_of_the_wrong_length_are_refused_by_number() {
    for suite in super::common::SUITES {
        let want = suite.key_len().unwrap();
        for have in [0, want - 1, want + 1] {
            let e = Sealer::new(suite, &vec![1; have]).unwrap_err();
            assert_eq!(e, stack::aead::KeyError::Length { suite, want, have });
            assert!(Opener::new(suite, &vec![1; have]).is_err());
        }
    }
    for bits in [0, 64, 192, 512] {
        assert!(EspSuite::AesGcm16 { key_bits: bits }.key_len().is_err(), "{bits}");
    }
}

/// RFC 7634 appendix A: a whole ESP packet.
#[test]
fn chacha20_poly1305_packet_of_rfc_7634() {
    let key = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3");
    let mut packet = hex(concat!(
        "0102030400000005",
        "1011121314151617",
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6",
        "14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3",
        "cbec163fac469b502773f6fb94e664da9165b82829f641e0",
        "76aaa8266b7fb0f7b11b369907e1ad43"
    ));
    let plain = concat!(
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10",
        "0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223",
        "2425262728292a2b2c2d2e2f303132333435363701020204"
    );
    let opener = Opener::new(EspSuite::ChaCha20Poly1305, &key).unwrap();
    opener.open(&mut packet, None).unwrap();
    assert_eq!(hex::encode(&packet[16..packet.len() - 16]), plain);
}

/// RFC 3686 section 6, test vector 3: key, nonce and IV (both our sequence number's room) give this ciphertext.
#[test]
fn ctr_ciphertext_of_rfc_3686_vector_3() {
    let integrity = EspIntegrity::AesXcbc96;
    let suite = EspSuite::AesCtr { key_bits: 128, integrity };
    let key = hex("7691be035e5020a8ac6e618529f9a0dc00e0017b");
    let mac_key = hex("000102030405060708090a0b0c0d0e0f");
    let plain = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223";
    let sealer = Sealer::new(suite, &[key, mac_key].concat()).unwrap();
    let mut packet = [vec![0; 16], hex(plain), vec![0; 12]].concat();
    sealer.seal(&mut packet, 0x27777f3f4a1786f0, false).unwrap();
    let cipher = "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f";
    assert_eq!(hex::encode(&packet[16..52]), cipher);
}
