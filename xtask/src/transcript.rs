//! Transcripts that can be compared: what differs from run to run becomes a placeholder.

/// Replaces times, rates, process ids and temporary paths; drops colours and trailing blanks.
pub(crate) fn normalise<S: AsRef<str>>(lines: &[S]) -> Vec<String> {
    lines.iter().map(|line| normalise_line(line.as_ref())).collect()
}

fn normalise_line(line: &str) -> String {
    let line = without_colours(line);
    let mut out = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some(first) = rest.chars().next() {
        let found =
            if out.chars().next_back().is_some_and(is_word) { None } else { volatile(rest) };
        if let Some((replacement, after)) = found {
            out.push_str(replacement);
            rest = after;
        } else {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// What `text` starts with, if that changes from run to run, and what follows it.
fn volatile(text: &str) -> Option<(&'static str, &str)> {
    temporary_path(text)
        .or_else(|| process_id(text))
        .or_else(|| timestamp(text))
        .or_else(|| measure(text))
}

fn temporary_path(text: &str) -> Option<(&'static str, &str)> {
    let temp = std::env::temp_dir();
    let after =
        ["/tmp", "/var/tmp", temp.to_str()?].into_iter().find_map(|t| text.strip_prefix(t))?;
    let after = after.strip_prefix('/')?;
    let end = after.find(|c: char| c.is_whitespace() || "\"'`,;:)]}".contains(c));
    Some(("<path>", after.get(end.unwrap_or(after.len())..)?))
}

fn process_id(text: &str) -> Option<(&'static str, &str)> {
    for (prefix, replacement) in
        [("pid=", "pid=<pid>"), ("pid ", "pid <pid>"), ("pid: ", "pid: <pid>")]
    {
        if let Some(after) = text.strip_prefix(prefix) {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            if rest.len() < after.len() {
                return Some((replacement, rest));
            }
        }
    }
    None
}

/// `2026-11-20T09:27:14.123Z`
fn timestamp(text: &str) -> Option<(&'static str, &str)> {
    let date = text.get(..11)?;
    let shape = |(i, c): (usize, char)| match i {
        4 | 7 => c == '-',
        10 => c == 'T' || c == ' ',
        _ => c.is_ascii_digit(),
    };
    if !date.chars().enumerate().all(shape) {
        return None;
    }
    let after = text.get(11..)?;
    let rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || ":.+Z".contains(c));
    let time = after.get(..after.len() - rest.len())?.trim_end_matches([':', '.']);
    (time.len() >= 8).then_some(("<timestamp>", after.get(time.len()..)?))
}

/// A number followed by a unit of time, or by `/s` or `<words>/s`.
fn measure(text: &str) -> Option<(&'static str, &str)> {
    let digits =
        text.trim_start_matches(|c: char| c.is_ascii_digit() || c == ',' || c == '.' || c == '_');
    if digits.len() == text.len() || !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let unit = digits.strip_prefix(' ').unwrap_or(digits);
    let after = unit.trim_start_matches(char::is_alphanumeric);
    let word = unit.get(..unit.len() - after.len())?;
    if let Some(rest) = after.strip_prefix("/s").filter(|rest| !rest.starts_with(is_word)) {
        return Some(("<rate>", rest));
    }
    let is_time = ["ns", "us", "\u{b5}s", "ms", "s"].contains(&word) && !after.starts_with('_');
    is_time.then_some(("<time>", after))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "_/.-".contains(c)
}

fn without_colours(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut parts = line.split("\u{1b}[");
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        out.push_str(part.get(end..).unwrap_or_default());
    }
    out
}

/// The lines that are gone (`-`) and new (`+`), with their line numbers; empty when all are equal.
pub(crate) fn diff(expected: &[String], actual: &[String]) -> Vec<String> {
    let common = common_lines(expected, actual);
    let mut out = Vec::new();
    let (mut e, mut a) = (0, 0);
    for (next_e, next_a) in common.into_iter().chain([(expected.len(), actual.len())]) {
        for (i, line) in expected.iter().enumerate().take(next_e).skip(e) {
            out.push(format!("-{:>4} {line}", i + 1));
        }
        for (i, line) in actual.iter().enumerate().take(next_a).skip(a) {
            out.push(format!("+{:>4} {line}", i + 1));
        }
        (e, a) = (next_e + 1, next_a + 1);
    }
    out
}

/// Index pairs of a longest common subsequence.
fn common_lines(left: &[String], right: &[String]) -> Vec<(usize, usize)> {
    let width = right.len() + 1;
    // lengths[l * width + r]: how many lines left[l..] and right[r..] have in common.
    let mut lengths = vec![0_u32; (left.len() + 1) * width];
    let at = |lengths: &[u32], l: usize, r: usize| lengths.get(l * width + r).copied().unwrap_or(0);
    for (l, left_line) in left.iter().enumerate().rev() {
        for (r, right_line) in right.iter().enumerate().rev() {
            let length = if left_line == right_line {
                at(&lengths, l + 1, r + 1) + 1
            } else {
                at(&lengths, l + 1, r).max(at(&lengths, l, r + 1))
            };
            if let Some(cell) = lengths.get_mut(l * width + r) {
                *cell = length;
            }
        }
    }
    let mut pairs = Vec::new();
    let (mut l, mut r) = (0, 0);
    while let (Some(left_line), Some(right_line)) = (left.get(l), right.get(r)) {
        if left_line == right_line {
            pairs.push((l, r));
            (l, r) = (l + 1, r + 1);
        } else if at(&lengths, l + 1, r) >= at(&lengths, l, r + 1) {
            l += 1;
        } else {
            r += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_from_run_to_run_is_replaced() {
        for (line, expected) in [
            ("Recovery completed in 12.5ms", "Recovery completed in <time>"),
            ("took 1.234567s (3 ms idle)", "took <time> (<time> idle)"),
            ("dur=250\u{b5}s, next", "dur=<time>, next"),
            ("wrote 12,345/s and 9_000.5 records/s", "wrote <rate> and <rate>"),
            ("child pid=4711 killed, pid 12 too", "child pid=<pid> killed, pid <pid> too"),
            ("state in /tmp/.tmpX1/state, opened", "state in <path>, opened"),
            ("at 2026-11-20T09:27:14.123456Z: start", "at <timestamp>: start"),
            ("\u{1b}[32mINFO\u{1b}[0m ok  ", "INFO ok"),
        ] {
            assert_eq!(normalise_line(line), expected);
        }
    }

    #[test]
    fn what_counts_is_kept() {
        for line in [
            "Snapshot loaded jobs=5",
            "Recovered 8 total jobs from crash!",
            "requeued_jobs=3, 20 completed",
            "5 jobs, snapshot, 3 more, kill: 8",
            "job-5s stays, v1.2s too, pid unknown",
            "3 seconds of 20/sec, 2 small",
            "examples/tmp/x and my/tmp/y",
        ] {
            assert_eq!(normalise_line(line), line);
        }
    }

    fn lines(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn equal_transcripts_have_no_difference() {
        assert!(diff(&lines("a b c"), &lines("a b c")).is_empty());
        assert!(diff(&[], &[]).is_empty());
    }

    #[test]
    fn a_difference_shows_only_what_changed() {
        assert_eq!(diff(&lines("a b c d"), &lines("a x c d e")), ["-   2 b", "+   2 x", "+   5 e"]);
        assert_eq!(diff(&lines("a b"), &[]), ["-   1 a", "-   2 b"]);
        assert_eq!(diff(&[], &lines("a")), ["+   1 a"]);
        assert_eq!(diff(&lines("a a b"), &lines("a b a")), ["-   2 a", "+   3 a"]);
    }
}
