//! The known word nearest to a misspelt one.

/// The candidate nearest to `word`, if one is near enough to be what was meant: at most a third of its
/// letters differ (and always one, from two letters on). Case does not count; the first of equals wins.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().collect();
    // Longer words than any name are not worth the work.
    if word.len() < 2 || word.len() > 100 {
        return None;
    }
    let far = (word.len() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let distance = distance(&word, &candidate.to_lowercase().chars().collect::<Vec<_>>());
        if distance <= far && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Edits between two words, a swap of neighbours being one edit.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut earlier: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let swap_or_not = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + swap_or_not);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(earlier[j - 2] + 1);
            }
        }
        earlier = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["badmailfrom", "badmailfromto", "rcpt_ok", "queue/maildir"];

    #[test]
    fn finds_what_was_meant() {
        assert_eq!(nearest("badmialfrom", NAMES), Some("badmailfrom"));
        assert_eq!(nearest("Badmailfromt", NAMES), Some("badmailfrom"));
        assert_eq!(nearest("rcptok", NAMES), Some("rcpt_ok"));
        assert_eq!(nearest("queue/mialdir", NAMES), Some("queue/maildir"));
    }

    #[test]
    fn does_not_guess_wildly() {
        assert_eq!(nearest("spamassassin", NAMES), None);
        assert_eq!(nearest("", NAMES), None);
        assert_eq!(nearest("x", NAMES), None);
    }

    #[test]
    fn counts_edits() {
        let count = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(count("kitten", "sitting"), 3);
        assert_eq!(count("ab", "ba"), 1);
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("same", "same"), 0);
    }
}
