//! The lines of a configuration file, each with the place it came from.

use std::fmt::{self, Display, Formatter};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use super::fault::{Fault, Severity};

/// File and line, as a person would look for it. Prints as `config/plugins:14`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file, as it was named when it was opened.
    pub file: Arc<Path>,
    /// The line, counted from 1; 0 means the file as a whole.
    pub line: u32,
}

impl Place {
    /// The file as a whole.
    pub fn of_file(file: &Path) -> Place {
        Place {
            file: Arc::from(file),
            line: 0,
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        Ok(())
    }
}

/// One entry of a file: not blank, no comment, without blanks around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The trimmed text.
    pub text: Box<str>,
    /// Where it stands; for an included line, in the included file.
    pub place: Place,
    /// The column, counted in characters from 1, where the trimmed text starts.
    pub column: u32,
}

impl Line {
    /// An error about the bytes `span` of the text.
    pub fn fault(&self, span: Range<usize>, message: impl Into<String>) -> Fault {
        let before = self.characters(0..span.start);
        let inside = self.characters(span);
        Fault {
            severity: Severity::Error,
            place: Some(self.place.clone()),
            column: self.column + before,
            width: inside,
            message: message.into(),
            source_line: Some(format!("{}{}", " ".repeat(self.indent()), self.text)),
        }
    }

    /// An error about `part`, which must be a slice of this line's text; any other slice means the whole line.
    pub fn blame(&self, part: &str, message: impl Into<String>) -> Fault {
        self.fault(self.span_of(part), message)
    }

    /// Where `part` lies in the text, in bytes; the whole text if it is no slice of it.
    pub fn span_of(&self, part: &str) -> Range<usize> {
        let start = (part.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        match start.checked_add(part.len()) {
            Some(end) if end <= self.text.len() => start..end,
            _ => 0..self.text.len(),
        }
    }

    /// The words of the line, split at blanks.
    pub fn words(&self) -> std::str::SplitAsciiWhitespace<'_> {
        self.text.split_ascii_whitespace()
    }

    /// Characters, not bytes, in a byte range; 0 where the range does not fit.
    fn characters(&self, span: Range<usize>) -> u32 {
        self.text
            .get(span)
            .map_or(0, |part| u32::try_from(part.chars().count()).unwrap_or(u32::MAX))
    }

    fn indent(&self) -> usize {
        (self.column as usize).saturating_sub(1)
    }
}

impl Deref for Line {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The lines of one lookup. A clone shares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines(Arc<[Line]>);

impl Lines {
    /// No lines.
    pub fn empty() -> Lines {
        Lines::default()
    }

    /// Lines that come from no file: from a test or from a `config` hook. They are placed in
    /// `config/NAME`, numbered from 1, and taken as they are, so that a hook may give any text.
    pub fn of<T: AsRef<str>>(name: &str, texts: impl IntoIterator<Item = T>) -> Lines {
        let file: Arc<Path> = Arc::from(Path::new("config").join(name));
        let line = |(at, text): (usize, T)| Line {
            text: Box::from(text.as_ref()),
            place: Place {
                file: file.clone(),
                line: at as u32 + 1,
            },
            column: 1,
        };
        texts.into_iter().enumerate().map(line).collect()
    }

    /// Whether both are the very same reading, so that nothing derived from it needs to be done again.
    pub fn same(&self, other: &Lines) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        &self.0
    }
}

impl FromIterator<Line> for Lines {
    fn from_iter<T: IntoIterator<Item = Line>>(lines: T) -> Lines {
        Lines(lines.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Lines {
    type Item = &'a Line;
    type IntoIter = std::slice::Iter<'a, Line>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_print_as_file_and_line() {
        let lines = Lines::of("plugins", ["a", "b"]);
        assert_eq!(lines[1].place.to_string(), "config/plugins:2");
        assert_eq!(Place::of_file(Path::new("config/me")).to_string(), "config/me");
    }

    #[test]
    fn sameness_is_identity() {
        let one = Lines::of("x", ["a"]);
        let two = Lines::of("x", ["a"]);
        assert!(one.same(&one.clone()));
        assert!(!one.same(&two));
        assert_eq!(one, two);
    }

    #[test]
    fn blame_finds_its_word_in_characters() {
        let line = Line {
            column: 3,
            ..Lines::of("x", ["é ü bad"])[0].clone()
        };
        let word = line.words().last().expect("three words");
        let fault = line.blame(word, "m");
        assert_eq!((fault.column, fault.width), (7, 3));
        assert_eq!(fault.source_line.as_deref(), Some("  é ü bad"));
        let elsewhere = String::from("bad");
        assert_eq!(line.blame(&elsewhere, "m").column, 3);
    }
}
