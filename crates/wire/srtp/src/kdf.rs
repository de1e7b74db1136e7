//! Session keys from master keys by AES in counter mode (RFC 3711 §4.3, RFC 7714 §11).

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};

use crate::{KeyError, SrtpKey};

/// What a derived key is for (RFC 3711 §4.3.1 and §4.3.2).
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Label {
    RtpEncryption = 0,
    RtpAuthentication = 1,
    RtpSalt = 2,
    RtcpEncryption = 3,
    RtcpAuthentication = 4,
    RtcpSalt = 5,
}

/// AES in counter mode under one key.
pub(crate) fn counter_key(key: &[u8]) -> Result<EncryptingKey, KeyError> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    let key = UnboundCipherKey::new(algorithm, key).map_err(|_| KeyError::Cipher)?;
    EncryptingKey::ctr(key).map_err(|_| KeyError::Cipher)
}

/// Fills `out` with the key stream for `label`; the derivation rate is zero.
pub(crate) fn derive(master: &SrtpKey, label: Label, out: &mut [u8]) -> Result<(), KeyError> {
    let mut iv = [0; 16];
    let (x, _block_counter) = iv.split_at_mut(14);
    x.copy_from_slice(master.salt_112());
    // The label is the top byte of a 56-bit key id that is aligned to the right of the salt's 112 bits.
    x[7] ^= label as u8;
    out.fill(0);
    counter_key(master.master_key())?
        .less_safe_encrypt(out, EncryptionContext::Iv128(iv.into()))
        .map_err(|_| KeyError::Cipher)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;
    use crate::cipher::test_hex::hex;

    #[test]
    fn the_rfc_3711_b3_keys_come_out() {
        let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
        let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
        let master = SrtpKey::new(Profile::Aes128CmSha1_80, &key, &salt).unwrap();
        for (label, wanted) in [
            (Label::RtpEncryption, "C61E7A93744F39EE10734AFE3FF7A087"),
            (Label::RtpSalt, "30CBBC08863D8C85D49DB34A9AE1"),
            (
                Label::RtpAuthentication,
                "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE
                 E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25
                 6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2",
            ),
        ] {
            let wanted = hex(wanted);
            let mut out = vec![0; wanted.len()];
            derive(&master, label, &mut out).unwrap();
            assert_eq!(out, wanted);
        }
    }
}
