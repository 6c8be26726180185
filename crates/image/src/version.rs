//! Debian version numbers and their order (Debian Policy 5.6.12): `[epoch:]upstream[-revision]`.

use std::cmp::Ordering;

/// Compares two versions the way dpkg does.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (ea, ua, ra) = split(a);
    let (eb, ub, rb) = split(b);
    ea.cmp(&eb).then_with(|| compare_part(ua, ub)).then_with(|| compare_part(ra, rb))
}

/// A relation between versions as written in dependency fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Relation {
    /// Parses the operator of a dependency; `<` and `>` are the historic spellings of `<=` and `>=`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "<<" => Self::Earlier,
            "<=" | "<" => Self::EarlierOrEqual,
            "=" => Self::Equal,
            ">=" | ">" => Self::LaterOrEqual,
            ">>" => Self::Later,
            _ => return None,
        })
    }

    /// Whether `have` stands in this relation to `want`.
    pub fn holds(self, have: &str, want: &str) -> bool {
        let order = compare(have, want);
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::EarlierOrEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::LaterOrEqual => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }
}

fn split(version: &str) -> (u64, &str, &str) {
    let version = version.trim();
    let (epoch, rest) = match version.split_once(':') {
        Some((e, rest)) => (e.parse().unwrap_or(0), rest),
        None => (0, version),
    };
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
    (epoch, upstream, revision)
}

/// Alternates between non-digit stretches (compared by [`weight`]) and numbers, as the policy describes.
fn compare_part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (text_a, rest_a) = cut(a, |c| !c.is_ascii_digit());
        let (text_b, rest_b) = cut(b, |c| !c.is_ascii_digit());
        for i in 0..text_a.len().max(text_b.len()) {
            let order = weight(text_a.get(i)).cmp(&weight(text_b.get(i)));
            if order != Ordering::Equal {
                return order;
            }
        }
        let (number_a, rest_a) = cut(rest_a, u8::is_ascii_digit);
        let (number_b, rest_b) = cut(rest_b, u8::is_ascii_digit);
        let (number_a, number_b) = (strip_zeros(number_a), strip_zeros(number_b));
        let order = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b));
        if order != Ordering::Equal {
            return order;
        }
        if rest_a.is_empty() && rest_b.is_empty() {
            return Ordering::Equal;
        }
        (a, b) = (rest_a, rest_b);
    }
}

fn cut(bytes: &[u8], keep: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|c| !keep(c)).unwrap_or(bytes.len()))
}

fn strip_zeros(digits: &[u8]) -> &[u8] {
    cut(digits, |&c| c == b'0').1
}

/// `~` sorts before the end, the end before letters, letters before everything else.
fn weight(c: Option<&u8>) -> i32 {
    match c {
        Some(b'~') => -1,
        None => 0,
        Some(&c) if c.is_ascii_alphabetic() => i32::from(c),
        Some(&c) => i32::from(c) + 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_the_policy_says() {
        let ascending = [
            "1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a", "1.0+b1", "1.0-1", "1.0-1+b2", "1.0-10", "1.1", "1:0.1",
        ];
        for pair in ascending.windows(2) {
            let expected = if pair == ["1.0+b1", "1.0-1"] { Ordering::Greater } else { Ordering::Less };
            assert_eq!(compare(pair[0], pair[1]), expected, "{} ? {}", pair[0], pair[1]);
            assert_eq!(compare(pair[1], pair[0]), expected.reverse());
        }
        assert_eq!(compare("1.00", "1.0"), Ordering::Equal);
        assert_eq!(compare("0:1.0-0", "1.0"), Ordering::Equal);
        assert_eq!(compare("6.12.107+deb13-1", "6.12.9+deb13-1"), Ordering::Greater);
        assert_eq!(compare("1.0-a-1", "1.0-b-1"), Ordering::Less);
    }

    #[test]
    fn relations() {
        assert!(Relation::LaterOrEqual.holds("2.41-12", "2.41"));
        assert!(!Relation::Earlier.holds("2.41-12", "2.41"));
        assert!(Relation::Equal.holds("1:2", "1:2"));
        assert!(Relation::Later.holds("10", "9"));
        assert!(Relation::EarlierOrEqual.holds("1~rc1", "1"));
        assert_eq!(Relation::parse("=="), None);
    }
}
