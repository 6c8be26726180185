//! Debian's control file syntax (Debian Policy 5.1, RFC 822 style): Release, Packages, control and `.sources` files.

/// One paragraph: field names with their raw values. A value keeps its continuation lines, newlines included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paragraph<'a> {
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Paragraph<'a> {
    /// The value of a field, names compared without case, surrounding white space removed.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
    }

    /// The lines of a multi-line field, each trimmed, empty ones dropped.
    pub fn lines(&self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.get(name).unwrap_or_default().lines().map(str::trim).filter(|l| !l.is_empty())
    }

    /// Every field in file order.
    pub fn fields(&self) -> &[(&'a str, &'a str)] {
        &self.fields
    }
}

/// Iterates over the paragraphs of `text`. Lines that are no field are skipped, as apt does.
pub fn paragraphs(text: &str) -> Paragraphs<'_> {
    Paragraphs { rest: text }
}

/// The iterator that [`paragraphs`] returns.
#[derive(Clone, Debug)]
pub struct Paragraphs<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = Paragraph<'a>;

    fn next(&mut self) -> Option<Paragraph<'a>> {
        let mut fields: Vec<(&'a str, &'a str)> = Vec::new();
        // Where the value of the field being read starts, as an offset into `text`.
        let text = self.rest;
        let mut open: Option<(&'a str, usize)> = None;
        let mut at = 0;
        while at < text.len() {
            let line_end = text[at..].find('\n').map_or(text.len(), |n| at + n);
            let line = &text[at..line_end];
            let next = (line_end + 1).min(text.len());
            if line.trim().is_empty() {
                close(&mut fields, open.take(), text, at);
                if !fields.is_empty() {
                    self.rest = &text[next..];
                    return Some(Paragraph { fields });
                }
            } else if !line.starts_with([' ', '\t', '#'])
                && let Some((name, _)) = line.split_once(':')
            {
                close(&mut fields, open.take(), text, at);
                open = Some((name, at + name.len() + 1));
            }
            at = next;
        }
        close(&mut fields, open, text, text.len());
        self.rest = "";
        (!fields.is_empty()).then_some(Paragraph { fields })
    }
}

fn close<'a>(
    fields: &mut Vec<(&'a str, &'a str)>,
    open: Option<(&'a str, usize)>,
    text: &'a str,
    end: usize,
) {
    if let Some((name, start)) = open {
        fields.push((name, &text[start..end]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_paragraphs_and_keeps_continuation_lines() {
        let text = "A: 1\nB:\n x\n y\n\n\nA: 2\nnoise\nC: end";
        let all: Vec<_> = paragraphs(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("a"), Some("1"));
        assert_eq!(all[0].lines("B").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(all[1].get("A"), Some("2\nnoise"));
        assert_eq!(all[1].get("C"), Some("end"));
        assert_eq!(all[1].get("D"), None);
    }

    #[test]
    fn empty_text_has_no_paragraph() {
        assert_eq!(paragraphs("").count(), 0);
        assert_eq!(paragraphs("\n\n  \n").count(), 0);
        assert_eq!(paragraphs("# only a comment\n").count(), 0);
    }
}
