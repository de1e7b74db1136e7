//! A store with stable keys that carry a generation: an old key never finds a newer tenant.

/// `Kind` keeps the keys of different stores apart.
pub struct Key<Kind> {
    index: u32,
    generation: u32,
    kind: std::marker::PhantomData<fn() -> Kind>,
}

impl<Kind> Key<Kind> {
    /// For a table beside the slab, as dense as the slab itself.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }

    const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation, kind: std::marker::PhantomData }
    }

    /// As one number, for the poller's token.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The key of a token. One that never was a key finds nothing.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self::new(bits as u32, (bits >> 32) as u32)
    }
}

impl<Kind> Clone for Key<Kind> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<Kind> Copy for Key<Kind> {}
impl<Kind> PartialEq for Key<Kind> {
    fn eq(&self, other: &Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}
impl<Kind> Eq for Key<Kind> {}
impl<Kind> std::fmt::Debug for Key<Kind> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

pub struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    len: usize,
    /// Of places made anew: above every generation that was given back.
    generation: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), len: 0, generation: 0 }
    }
}

impl<T> Slab<T> {
    pub fn insert(&mut self, value: T) -> Key<T> {
        self.len += 1;
        if let Some(index) = self.free.pop()
            && let Some(entry) = self.entries.get_mut(index as usize)
        {
            entry.value = Some(value);
            return Key::new(index, entry.generation);
        }
        let index = self.entries.len() as u32;
        self.entries.push(Entry { generation: self.generation, value: Some(value) });
        Key::new(index, self.generation)
    }

    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        let entry = self.entries.get_mut(key.index()).filter(|e| e.generation == key.generation)?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.index);
        self.len -= 1;
        if self.len == 0 {
            self.give_memory_back();
        }
        Some(value)
    }

    /// Empty: the memory of a busy hour goes back. Generations start above all that were, so old keys stay dead.
    fn give_memory_back(&mut self) {
        if self.entries.len() <= 1_024 {
            return;
        }
        self.generation = self.entries.iter().map(|entry| entry.generation).max().unwrap_or(0);
        self.entries.truncate(1_024);
        self.entries.shrink_to_fit();
        self.free = (0..self.entries.len() as u32).rev().collect();
    }

    pub fn get(&self, key: Key<T>) -> Option<&T> {
        self.entries.get(key.index()).filter(|e| e.generation == key.generation)?.value.as_ref()
    }

    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        self.entries.get_mut(key.index()).filter(|e| e.generation == key.generation)?.value.as_mut()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        (0..).zip(&self.entries).filter_map(|(i, e)| Some((Key::new(i, e.generation), e.value.as_ref()?)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key<T>, &mut T)> {
        (0..).zip(&mut self.entries).filter_map(|(i, e)| Some((Key::new(i, e.generation), e.value.as_mut()?)))
    }

    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_value_finds_nothing_even_after_its_place_is_taken() {
        let mut slab = Slab::default();
        let old = slab.insert("a");
        assert_eq!(slab.remove(old), Some("a"));
        let new = slab.insert("b");
        assert_eq!((old.index(), Key::from_bits(new.to_bits())), (new.index(), new));
        assert_eq!((slab.get(old), slab.get(new), slab.len()), (None, Some(&"b"), 1));
        assert_eq!(slab.remove(old), None);
    }

    #[test]
    fn the_memory_of_a_busy_hour_goes_back_and_its_keys_stay_dead() {
        let mut slab = Slab::default();
        let keys: Vec<_> = (0..5_000).map(|n| slab.insert(n)).collect();
        keys.iter().for_each(|key| assert!(slab.remove(*key).is_some()));
        assert!(slab.entries.capacity() <= 1_024 && slab.free.capacity() <= 2_048);
        let again: Vec<_> = (0..5_000).map(|n| slab.insert(n)).collect();
        assert!(keys.iter().all(|old| slab.get(*old).is_none()) && again.len() == slab.len());
    }
}
