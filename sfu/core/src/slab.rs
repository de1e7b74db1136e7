//! A store with stable, generation-checked keys: an old key never finds a newer tenant.

/// `Kind` keeps the keys of different stores apart.
pub struct Key<Kind> {
    index: u32,
    generation: u32,
    kind: std::marker::PhantomData<fn() -> Kind>,
}

impl<Kind> Key<Kind> {
    pub const fn index(self) -> u32 {
        self.index
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
        (self.index, self.generation) == (other.index, other.generation)
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
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    pub fn insert(&mut self, value: T) -> Key<T> {
        self.len += 1;
        if let Some(index) = self.free.pop()
            && let Some(entry) = self.entries.get_mut(index as usize)
        {
            entry.value = Some(value);
            return Self::key(index, entry.generation);
        }
        let index = self.entries.len() as u32;
        self.entries.push(Entry { generation: 0, value: Some(value) });
        Self::key(index, 0)
    }

    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        let entry = self.entries.get_mut(key.index as usize).filter(|e| e.generation == key.generation)?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.index);
        self.len -= 1;
        Some(value)
    }

    pub fn get(&self, key: Key<T>) -> Option<&T> {
        self.entries.get(key.index as usize).filter(|e| e.generation == key.generation)?.value.as_ref()
    }

    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        self.entries.get_mut(key.index as usize).filter(|e| e.generation == key.generation)?.value.as_mut()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        (0..).zip(&self.entries).filter_map(|(i, e)| Some((Self::key(i, e.generation), e.value.as_ref()?)))
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    const fn key(index: u32, generation: u32) -> Key<T> {
        Key { index, generation, kind: std::marker::PhantomData }
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
        assert_eq!(old.index(), new.index());
        assert_eq!((slab.get(old), slab.get(new), slab.len()), (None, Some(&"b"), 1));
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.iter().count(), 1);
    }
}
