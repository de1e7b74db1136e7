//! Allocate (RFC 8656 §7.2) and Refresh (§8.2), in the order of the RFC's steps.
use crate::allocation::{Allocation, AllocationKey, Created, Meter, Phase};
use crate::auth::Login;
use crate::event::EndCause;
use crate::open::{Even, Opening, Stage};
use crate::reply::Asked;
use crate::request::Refused;
use crate::settings::DefaultFamily;
use crate::shard::Shard;
use offhook_shard::{Bucket, Moment};
use offhook_wire_stun::{AddressFamily, AttributeError, AttributeType, Message};
use std::sync::Arc;
use std::time::Duration;

/// IANA's number of the one protocol that is relayed.
const UDP: u8 = 17;

/// ADDITIONAL-ADDRESS-FAMILY as the draft before RFC 8656 numbered it, which coturn 4.6 and its clients still send. It is
/// always IPv6.
const DRAFT_ADDITIONAL_FAMILY: AttributeType = AttributeType(0x8032);

fn wants_both(request: &Message<'_>) -> bool {
    request.has(AttributeType::ADDITIONAL_ADDRESS_FAMILY) || request.has(DRAFT_ADDITIONAL_FAMILY)
}

/// What an Allocate asks for, once it has been checked.
struct Wish {
    family: AddressFamily,
    additional: bool,
    even: Even,
    token: Option<[u8; 8]>,
    /// Both families were asked for, and this one is not here.
    missing: Option<(AddressFamily, u16)>,
}

impl Shard {
    pub(crate) fn allocate(
        &mut self,
        now: Moment,
        asked: &Asked,
        request: &Message<'_>,
        login: &Login,
        owner: Option<AllocationKey>,
    ) -> Result<(), Refused> {
        // Step 1, authentication, is behind us. Step 2: one allocation for each 5-tuple.
        if let Some(key) = owner {
            return self.allocate_again(asked, login, key);
        }
        // Steps 3 to 9.
        let wish = self.read_wish(asked, request, login)?;
        if self.draining {
            return Err(Refused::Draining);
        }
        if self.allocations.len() >= self.allocations_max {
            return Err(Refused::ShardFull);
        }
        // Step 10: quotas.
        let account = self.account(&login.user);
        let grant = self.quota.admit(&account)?;
        let lifetime = self.lifetime(request.lifetime_s().ok().flatten());
        let mut opening = Opening::new(*asked, lifetime, wish.even, wish.additional);
        opening.failed_family = wish.missing;
        let key = self.allocations.insert(Allocation {
            path: asked.path,
            user: Arc::clone(&login.user),
            account,
            seal: login.seal,
            grant: Some(grant),
            phase: Phase::Opening(Box::new(opening)),
            relays: [None, None],
            permissions: Vec::new(),
            channels: Vec::new(),
            new_peers: Bucket::default(),
            refusals: Bucket::default(),
            up: Meter::default(),
            down: Meter::default(),
            began: now,
            timer: now,
        });
        self.by_path.insert(asked.path, key);
        match wish.token {
            Some(token) => self.open_reserved(now, key, &token),
            None => self.open_next(now, key, Stage::First(wish.family)),
        }
        Ok(())
    }

    fn account(&self, user: &Arc<str>) -> Arc<str> {
        let account = self.settings.users.account(user);
        if *account == **user { Arc::clone(user) } else { account.into() }
    }

    /// The same request again gets the same answer; another is a mismatch.
    fn allocate_again(&mut self, asked: &Asked, login: &Login, key: AllocationKey) -> Result<(), Refused> {
        let Some(allocation) = self.allocations.get(key) else { return Ok(()) };
        match &allocation.phase {
            // Its answer is on the way.
            Phase::Opening(opening) if opening.asked.transaction == asked.transaction => Ok(()),
            Phase::Live(created) if created.transaction == asked.transaction && allocation.user == login.user => {
                self.answer_allocated(asked, key);
                Ok(())
            }
            _ => Err(Refused::HasAllocation),
        }
    }

    fn read_wish(&self, asked: &Asked, request: &Message<'_>, login: &Login) -> Result<Wish, Refused> {
        // Step 3: the transport.
        match request.requested_transport()? {
            Some(UDP) if self.settings.udp_relay => {}
            Some(other) => return Err(Refused::Transport(other)),
            None => return Err(Refused::BadRequest("REQUESTED-TRANSPORT is missing")),
        }
        // Step 4: DONT-FRAGMENT is understood. Step 5: a reservation stands alone.
        let token = request.reservation_token()?;
        let even = request.even_port()?;
        let wants_family = request.has(AttributeType::REQUESTED_ADDRESS_FAMILY);
        let wants_both = wants_both(request);
        if token.is_some() && (even.is_some() || wants_family || wants_both) {
            return Err(Refused::BadRequest("RESERVATION-TOKEN with EVEN-PORT or an address family"));
        }
        if token.is_some_and(|token| !self.quota.is_reserved_for(&token, self.settings.users.account(&login.user))) {
            return Err(Refused::Token);
        }
        // Step 6: one or the other.
        if wants_family && wants_both {
            return Err(Refused::BadRequest("REQUESTED-ADDRESS-FAMILY with ADDITIONAL-ADDRESS-FAMILY"));
        }
        // Step 7: a family that we have. 8: the additional one is IPv6, and not together with a reserved pair.
        let family = self.wanted_family(asked, request)?;
        let by_draft = request.has(DRAFT_ADDITIONAL_FAMILY);
        let additional = match request.additional_address_family() {
            Ok(None) if by_draft => true,
            Ok(Some(AddressFamily::V4)) => return Err(Refused::BadRequest("ADDITIONAL-ADDRESS-FAMILY of IPv4")),
            Ok(additional) => additional.is_some(),
            Err(AttributeError::Value { .. }) => return Err(Refused::Family),
            Err(malformed) => return Err(malformed.into()),
        };
        if additional && even == Some(true) {
            return Err(Refused::BadRequest("ADDITIONAL-ADDRESS-FAMILY with a reserved EVEN-PORT"));
        }
        // Step 9, whether an even port is free, shows when it is taken.
        let even = match even {
            None => Even::Any,
            Some(false) => Even::Alone,
            Some(true) => Even::WithNext,
        };
        // RFC 8656 §7.2: of two families, the one that is here, and why the other is not.
        let missing = (additional && family == AddressFamily::V6).then_some((AddressFamily::V4, 440));
        Ok(Wish { family, additional: additional && missing.is_none(), even, token, missing })
    }

    fn wanted_family(&self, asked: &Asked, request: &Message<'_>) -> Result<AddressFamily, Refused> {
        let wanted = match request.requested_address_family() {
            Ok(Some(family)) => family,
            Err(AttributeError::Value { .. }) => return Err(Refused::Family),
            Err(malformed) => return Err(malformed.into()),
            // RFC 8656 §2.9: both means IPv4 and IPv6.
            Ok(None) if wants_both(request) => {
                if self.has_relay_address(AddressFamily::V4) {
                    AddressFamily::V4
                } else {
                    AddressFamily::V6
                }
            }
            Ok(None) => match self.settings.default_family {
                DefaultFamily::V4 => AddressFamily::V4,
                DefaultFamily::V6 => AddressFamily::V6,
                DefaultFamily::AsClient => {
                    let came_by = crate::allocation::family_of(asked.path.client);
                    if self.has_relay_address(came_by) { came_by } else { AddressFamily::V4 }
                }
            },
        };
        if self.has_relay_address(wanted) { Ok(wanted) } else { Err(Refused::Family) }
    }

    /// RFC 8656 §7.2: no less than the default, no more than the maximum.
    fn lifetime(&self, wanted_s: Option<u32>) -> Duration {
        let wanted = Duration::from_secs(u64::from(wanted_s.unwrap_or(0)));
        wanted.max(self.settings.lifetime).min(self.settings.lifetime_max)
    }

    /// RFC 8656 §7.3: relayed, mapped, lifetime, and what else was asked for.
    pub(crate) fn answer_allocated(&mut self, asked: &Asked, key: AllocationKey) {
        let Some(allocation) = self.allocations.get(key) else { return };
        let Phase::Live(created) = allocation.phase else { return };
        let (seal, client) = (allocation.seal, allocation.path.client);
        let relayed = self.relayed(allocation);
        self.succeed(asked, &seal, |answer| {
            relayed.into_iter().flatten().for_each(|address| {
                answer.xor_relayed_address(address);
            });
            answer.xor_mapped_address(client).lifetime_s(created.lifetime_s);
            if let Some(token) = created.token {
                answer.reservation_token(token);
            }
            if let Some((family, code)) = created.failed_family {
                let (class, number) = ((code / 100) as u8, (code % 100) as u8);
                answer.attr(AttributeType::ADDRESS_ERROR_CODE, &[family.wire(), 0, class, number]);
            }
        });
    }

    pub(crate) fn refresh(
        &mut self,
        now: Moment,
        asked: &Asked,
        request: &Message<'_>,
        login: &Login,
        key: AllocationKey,
    ) -> Result<(), Refused> {
        let wanted_s = request.lifetime_s()?;
        // RFC 8656 §8.2: a family that the allocation has, or all of it.
        let family = match request.requested_address_family() {
            Ok(family) => family,
            Err(AttributeError::Value { .. }) => return Err(Refused::PeerFamily),
            Err(malformed) => return Err(malformed.into()),
        };
        let Some(allocation) = self.allocations.get_mut(key) else { return Err(Refused::NoAllocation) };
        if family.is_some_and(|family| allocation.relay(family).is_none()) {
            return Err(Refused::PeerFamily);
        }
        let lifetime = if wanted_s == Some(0) { Duration::ZERO } else { self.lifetime(wanted_s) };
        let concerned = |of| family.is_none_or(|wanted| wanted == of);
        let ends = now.after(lifetime);
        if let Some(allocation) = self.allocations.get_mut(key) {
            allocation
                .relays
                .iter_mut()
                .flatten()
                .filter(|held| concerned(held.family))
                .for_each(|held| held.ends = ends);
        }
        if lifetime.is_zero() {
            self.end_relays(now, key, EndCause::Released);
        } else {
            self.rearm(now, key);
        }
        let lifetime_s = lifetime.as_secs() as u32;
        self.succeed(asked, &login.seal, |answer| {
            answer.lifetime_s(lifetime_s);
        });
        Ok(())
    }

    pub(crate) fn created(opening: &Opening, token: Option<[u8; 8]>) -> Created {
        Created {
            transaction: opening.asked.transaction,
            lifetime_s: opening.lifetime.as_secs() as u32,
            token,
            failed_family: opening.failed_family,
        }
    }
}
