//! Protection profiles and master keys (RFC 5764 §4.1.2, RFC 7714 §14.2).

use core::fmt;

use crate::KeyError;

/// The label under which DTLS exports SRTP keys (RFC 5764 §4.2).
pub const DTLS_EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

const MAX_KEY: usize = 32;
const MAX_SALT: usize = 14;

/// How packets are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    AeadAes256Gcm,
    AeadAes128Gcm,
    Aes128CmSha1_80,
}

impl Profile {
    /// In order of our preference.
    pub const ALL: [Self; 3] = [Self::AeadAes256Gcm, Self::AeadAes128Gcm, Self::Aes128CmSha1_80];

    /// Bytes of the master key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            Self::AeadAes128Gcm | Self::Aes128CmSha1_80 => 16,
        }
    }

    /// Bytes of the master salt.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm | Self::AeadAes128Gcm => 12,
            Self::Aes128CmSha1_80 => 14,
        }
    }

    /// Bytes that sealing adds to an RTP packet.
    #[must_use]
    pub const fn tag_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm | Self::AeadAes128Gcm => 16,
            Self::Aes128CmSha1_80 => 10,
        }
    }

    /// Bytes that sealing adds to an RTCP compound: tag and index word.
    #[must_use]
    pub const fn rtcp_trailer_len(self) -> usize {
        self.tag_len() + 4
    }

    /// Its number in the `use_srtp` extension.
    #[must_use]
    pub const fn dtls_id(self) -> u16 {
        match self {
            Self::Aes128CmSha1_80 => 0x0001,
            Self::AeadAes128Gcm => 0x0007,
            Self::AeadAes256Gcm => 0x0008,
        }
    }

    #[must_use]
    pub const fn from_dtls_id(id: u16) -> Option<Self> {
        match id {
            0x0001 => Some(Self::Aes128CmSha1_80),
            0x0007 => Some(Self::AeadAes128Gcm),
            0x0008 => Some(Self::AeadAes256Gcm),
            _ => None,
        }
    }

    /// Bytes to export from DTLS: two keys and two salts.
    #[must_use]
    pub const fn dtls_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }
}

/// A master key and salt of one direction. `Debug` hides both.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKey {
    profile: Profile,
    key: [u8; MAX_KEY],
    salt: [u8; MAX_SALT],
}

impl SrtpKey {
    /// # Errors
    /// Key or salt of another length than the profile's.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, KeyError> {
        Ok(Self {
            profile,
            key: padded("key", key, profile.key_len())?,
            salt: padded("salt", salt, profile.salt_len())?,
        })
    }

    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    #[must_use]
    pub fn master_key(&self) -> &[u8] {
        self.key.get(..self.profile.key_len()).unwrap_or_default()
    }

    #[must_use]
    pub fn master_salt(&self) -> &[u8] {
        self.salt.get(..self.profile.salt_len()).unwrap_or_default()
    }

    /// The salt filled up with zeros to 112 bits, as derivation wants it (RFC 7714 §11).
    pub(crate) const fn salt_112(&self) -> &[u8; MAX_SALT] {
        &self.salt
    }
}

impl fmt::Debug for SrtpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKey").field("profile", &self.profile).field("key", &"***").finish()
    }
}

fn padded<const N: usize>(what: &'static str, bytes: &[u8], wanted: usize) -> Result<[u8; N], KeyError> {
    if bytes.len() != wanted {
        return Err(KeyError::Length { what, len: bytes.len(), wanted });
    }
    let mut out = [0; N];
    out.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    Ok(out)
}

/// Cuts exported keying material into (local, remote): client key, server key, client salt, server salt
/// (RFC 5764 §4.2). `is_client` is our side of the DTLS handshake.
///
/// # Errors
/// Material shorter than [`Profile::dtls_material_len`]; what is longer is ignored.
pub fn split_dtls_keys(profile: Profile, material: &[u8], is_client: bool) -> Result<(SrtpKey, SrtpKey), KeyError> {
    let wanted = profile.dtls_material_len();
    let short = KeyError::Length { what: "keying material", len: material.len(), wanted };
    let (keys, rest) = material.split_at_checked(2 * profile.key_len()).ok_or(short)?;
    let salts = rest.get(..2 * profile.salt_len()).ok_or(short)?;
    let (client_key, server_key) = keys.split_at(profile.key_len());
    let (client_salt, server_salt) = salts.split_at(profile.salt_len());
    let client = SrtpKey::new(profile, client_key, client_salt)?;
    let server = SrtpKey::new(profile, server_key, server_salt)?;
    Ok(if is_client { (client, server) } else { (server, client) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_a_handshake_agree_on_crossed_keys() {
        for profile in Profile::ALL {
            let material: Vec<u8> = (0..=255).take(profile.dtls_material_len()).collect();
            let (client_local, client_remote) = split_dtls_keys(profile, &material, true).unwrap();
            let (server_local, server_remote) = split_dtls_keys(profile, &material, false).unwrap();
            assert_eq!((&client_local, &client_remote), (&server_remote, &server_local));
            let key_len = profile.key_len();
            assert_eq!(client_local.master_key(), &material[..key_len]);
            assert_eq!(client_local.master_salt(), &material[2 * key_len..][..profile.salt_len()]);
            assert_eq!(server_local.master_salt(), &material[2 * key_len + profile.salt_len()..]);
            assert!(split_dtls_keys(profile, &material[1..], true).is_err());
            assert_eq!(Profile::from_dtls_id(profile.dtls_id()), Some(profile));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = SrtpKey::new(Profile::AeadAes128Gcm, &[0xAB; 16], &[0xCD; 12]).unwrap();
        assert_eq!(format!("{key:?}"), "SrtpKey { profile: AeadAes128Gcm, key: \"***\" }");
    }

    #[test]
    fn lengths_are_exact() {
        let wrong = SrtpKey::new(Profile::AeadAes256Gcm, &[0; 16], &[0; 12]);
        assert_eq!(wrong, Err(KeyError::Length { what: "key", len: 16, wanted: 32 }));
        let wrong = SrtpKey::new(Profile::Aes128CmSha1_80, &[0; 16], &[0; 12]);
        assert_eq!(wrong, Err(KeyError::Length { what: "salt", len: 12, wanted: 14 }));
    }
}
