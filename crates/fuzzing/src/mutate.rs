//! Mutations from a seed: the same inputs on every machine, whatever its clock.

/// Inputs never grow beyond this.
const MAX_LEN: usize = 4096;
/// Numbers at which length and count fields break.
const EDGES: [u32; 12] = [0, 1, 3, 4, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0xFFFF_FFFF];

/// A generator of inputs made from seeds and dictionary words.
#[derive(Debug)]
pub struct Mutator {
    state: u64,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    #[must_use]
    pub fn seeded(seed: u64, words: Vec<Vec<u8>>) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, words }
    }

    /// One of `seeds`, with one to eight mutations.
    pub fn next_input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(8) {
            self.mutate(&mut input, seeds);
        }
        input.truncate(MAX_LEN);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = at + self.below((input.len() - at).min(64) + 1);
        match self.below(10) {
            0 => self.flip(input, at),
            1 => self.set(input, at),
            2 => input.truncate(at),
            3 => drop(input.drain(at..end)),
            4 => input.extend_from_within(at..end),
            5 => self.put_edge(input, at),
            6 => self.put_word(input, at, end),
            7 => {
                let other = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            8 => {
                let noise: Vec<u8> = (0..self.below(9)).map(|_| self.byte()).collect();
                drop(input.splice(at..at, noise));
            }
            _ => input[at..end].reverse(),
        }
    }

    fn flip(&mut self, input: &mut [u8], at: usize) {
        let bit = self.below(8);
        if let Some(byte) = input.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }

    fn set(&mut self, input: &mut [u8], at: usize) {
        let value = self.byte();
        if let Some(byte) = input.get_mut(at) {
            *byte = value;
        }
    }

    fn put_edge(&mut self, input: &mut [u8], at: usize) {
        let edge = EDGES[self.below(EDGES.len())].to_be_bytes();
        let width = [1, 2, 4][self.below(3)];
        input.iter_mut().skip(at).zip(&edge[4 - width..]).for_each(|(slot, byte)| *slot = *byte);
    }

    /// Over what stands there, or in between.
    fn put_word(&mut self, input: &mut Vec<u8>, at: usize, end: usize) {
        let pick = self.below(self.words.len());
        let Some(word) = self.words.get(pick).cloned() else { return };
        let end = if self.below(2) == 0 { at } else { end };
        drop(input.splice(at..end, word));
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    /// Below `bound`; 0 if the bound is.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.next() >> 16) % bound).unwrap_or(0)
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// The words of a libFuzzer dictionary: one quoted string a line, `\\`, `\"` and `\xNN` escaped, `#` for comments.
///
/// # Panics
/// On a line that is none of these: a broken dictionary should not pass unnoticed.
#[must_use]
pub fn dictionary(text: &str) -> Vec<Vec<u8>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| word(line).unwrap_or_else(|| panic!("no dictionary word: {line}"))).collect()
}

fn word(line: &str) -> Option<Vec<u8>> {
    let (_, quoted) = line.split_once('"')?;
    let mut rest = quoted.strip_suffix('"')?.as_bytes();
    let mut out = Vec::new();
    while let Some((first, behind)) = rest.split_first() {
        (rest, out) = match (first, behind) {
            (b'\\', [b'x', hex @ ..]) => {
                let digits = std::str::from_utf8(hex.get(..2)?).ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                (&hex[2..], out)
            }
            (b'\\', [escaped @ (b'\\' | b'"'), behind @ ..]) => {
                out.push(*escaped);
                (behind, out)
            }
            (b'\\', _) => return None,
            (byte, behind) => {
                out.push(*byte);
                (behind, out)
            }
        };
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let seeds = vec![b"one seed".to_vec(), b"another".to_vec()];
        let run = |seed| {
            let mut mutator = Mutator::seeded(seed, vec![b"word".to_vec()]);
            (0..100).map(|_| mutator.next_input(&seeds)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert!(run(3).iter().all(|input| input.len() <= MAX_LEN));
    }

    #[test]
    fn words_are_read_with_their_escapes() {
        let text = "# comment\n\ncookie=\"\\x21\\x12\"\n\"a\\\\b\\\"c\"\n";
        assert_eq!(dictionary(text), [vec![0x21, 0x12], b"a\\b\"c".to_vec()]);
    }

    #[test]
    #[should_panic(expected = "no dictionary word")]
    fn a_broken_line_is_noticed() {
        let _ = dictionary("\"\\x2\"");
    }
}
