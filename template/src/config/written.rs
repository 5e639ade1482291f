//! Values as people write them into `.env`, and as shells, Docker, Compose and Kubernetes pass them on.
//!
//! Each reads the same line otherwise: a shell and Compose take quotes away and put variables in the place of `$`; `docker run --env-file`
//! and `kubectl create secret --from-env-file` hand quotes, `$` and remarks on as they stand. What all mean alike is taken, wherever it comes
//! from; what they do not is taken in single quotes, and refused by its name without: nothing is cut off in silence.

use super::error::ConfigError;

/// A variable and its value.
pub type Pair = (String, String);

/// Why a value is not taken. No reason repeats any of it: it may be a key.
type Refusal = &'static str;

const NO_LINE: &str = "expected NAME=value";
const UNCLOSED: Refusal = "its value begins with a quote that the line does not close";
const BEHIND_QUOTES: Refusal = "text stands behind the closing quote of its value: put quotes around all of it; one with both kinds of quotes belongs into nova.toml";
const VARIABLE: Refusal = "its value has a `$`, in whose place other readers of the file put a variable: put the value in single \
                           quotes if it is meant as it stands";
const ESCAPE: Refusal =
    "its value has a backslash, which other readers of the file take away: put the value in single quotes";
const QUOTE_INSIDE: Refusal = "its value has a quote that is not around all of it: put it in single quotes, or in double ones if the quote \
                               is an apostrophe";
const TYPOGRAPHIC: Refusal = "its value has typographic quotes around it: they would be a part of it; write ' or \"";
const HALF_QUOTED: Refusal = "its value ends with a quote and begins with none: it was cut somewhere";
const REMARK: Refusal = "its value has a remark behind it (` #`), which Docker and Kubernetes pass on as a part of the value: remove it, or put \
                         the value in single quotes if it belongs to it";
const CONTROL: Refusal = "its value has a line break or another control character in it";
const NO_TEXT: Refusal = "its value is no UTF-8 text";

/// The names whose values are read: others in the file are Compose's or another program's.
fn is_ours(name: &str) -> bool {
    name.starts_with("NOVA_") || name.starts_with("AWS_")
}

/// The variables of an `.env` that are ours. Errors name file, line and variable.
pub fn read(file: &str, text: &str, mistakes: &mut Vec<ConfigError>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = named(line) else {
            mistakes.push(ConfigError(format!("{file} (line {}): {NO_LINE}", at + 1)));
            continue;
        };
        if !is_ours(name) {
            // Another program's key may have several lines, in quotes.
            let quote = value.chars().next().filter(|quote| "'\"".contains(*quote) && !value[1..].contains(*quote));
            while let Some(quote) = quote
                && let Some((_, line)) = lines.next_if(|(_, line)| named(line).is_none_or(|(name, _)| !is_ours(name)))
            {
                if line.contains(quote) {
                    break;
                }
            }
            continue;
        }
        match of_line(value) {
            // The last one counts, as everywhere.
            Ok(value) => {
                pairs.retain(|(other, _)| other != name);
                pairs.push((name.to_owned(), value));
            }
            Err(why) => mistakes.push(ConfigError(format!("{name} in {file} (line {}): {why}", at + 1))),
        }
    }
    pairs
}

/// A line's name, and what stands behind its `=`.
fn named(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    is_name.then_some((name, value))
}

/// The value of a line, which may have a remark behind it.
fn of_line(text: &str) -> Result<String, Refusal> {
    let has_blank = text.starts_with(char::is_whitespace);
    let text = text.trim();
    if let Some(value) = in_quotes(text) {
        return value;
    }
    let text = match remark(text) {
        // A remark where there is no value: `NAME= # the key`.
        _ if has_blank && text.starts_with('#') => "",
        Some(at) => text[..at].trim_end(),
        None => text,
    };
    for (found, why) in
        [('$', VARIABLE), ('\\', ESCAPE), ('\'', QUOTE_INSIDE), ('"', QUOTE_INSIDE), ('`', QUOTE_INSIDE)]
    {
        if text.contains(found) {
            return Err(why);
        }
    }
    plain(text)
}

/// A value of the environment or of a file that holds a key: what has set it may have handed on the quotes around it.
///
/// # Errors
/// Why it cannot be what is meant.
pub fn passed(text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    if let Some(value) = in_quotes(text) {
        return value;
    }
    if text.contains('\u{fffd}') {
        return Err(NO_TEXT);
    }
    if text.ends_with(['\'', '"']) {
        return Err(HALF_QUOTED);
    }
    if remark(text).is_some() {
        return Err(REMARK);
    }
    plain(text)
}

/// What is read alike wherever it stands.
fn plain(text: &str) -> Result<String, Refusal> {
    const MARKS: [char; 8] =
        ['\u{2018}', '\u{2019}', '\u{201a}', '\u{201c}', '\u{201d}', '\u{201e}', '\u{ab}', '\u{bb}'];
    if text.starts_with(MARKS) || text.ends_with(MARKS) {
        return Err(TYPOGRAPHIC);
    }
    if text.contains(char::is_control) {
        return Err(CONTROL);
    }
    Ok(text.to_owned())
}

/// Where a remark begins: at the blank before its `#`.
fn remark(text: &str) -> Option<usize> {
    text.char_indices()
        .find(|(at, c)| c.is_whitespace() && text[at + c.len_utf8()..].starts_with('#'))
        .map(|(at, _)| at)
}

/// What is in the quotes that a value begins with; `None` if it begins with none. Behind them may be a remark.
fn in_quotes(text: &str) -> Option<Result<String, Refusal>> {
    let quote = text.chars().next().filter(|quote| "'\"".contains(*quote))?;
    let (mut value, mut rest) = (String::new(), text[1..].chars());
    Some(loop {
        match rest.next() {
            None => break Err(UNCLOSED),
            Some(end) if end == quote => {
                let rest = rest.as_str();
                let behind = rest.trim_start();
                let is_remark = behind.starts_with('#') && behind.len() < rest.len();
                break if behind.is_empty() || is_remark { Ok(value) } else { Err(BEHIND_QUOTES) };
            }
            Some('$' | '`') if quote == '"' => break Err(VARIABLE),
            Some('\\') if quote == '"' => match rest.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => value.push(escaped),
                _ => break Err(ESCAPE),
            },
            Some(c) if c.is_control() => break Err(CONTROL),
            Some(c) => value.push(c),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(line: &str) -> Result<String, String> {
        let mut mistakes = Vec::new();
        let pairs = read(".env", &format!("NOVA_GAS=1\nNOVA_X={line}\nNOVA_SLA_SECONDS=2"), &mut mistakes);
        let told: Vec<String> = mistakes.into_iter().map(|mistake| mistake.0).collect();
        // Whatever one line holds, those around it are read.
        let value = |name: &str| pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        assert_eq!(
            (value("NOVA_GAS").as_deref(), value("NOVA_SLA_SECONDS").as_deref()),
            (Some("1"), Some("2")),
            "{line}"
        );
        value("NOVA_X").ok_or(told.join("; "))
    }

    #[test]
    fn what_all_readers_mean_alike_is_taken() {
        for (line, value) in [
            ("abc", "abc"),
            ("  abc  ", "abc"),
            ("", ""),
            ("''", ""),
            ("'sk-ab$cd'", "sk-ab$cd"),
            ("\"sk-ab\\$cd\"", "sk-ab$cd"),
            ("'a\\b # c'", "a\\b # c"),
            ("\"it's\"", "it's"),
            ("'say \"x\"'", "say \"x\""),
            ("5 # gas", "5"),
            ("5\t# gas", "5"),
            ("'5' # it's gas", "5"),
            ("'5'   # gas", "5"),
            (" # none yet", ""),
            (" # the key # of theirs", ""),
            ("ab#cd", "ab#cd"),
            ("#abc", "#abc"),
            ("https://one.example, https://two.example/a=b", "https://one.example, https://two.example/a=b"),
            ("abc\r", "abc"),
        ] {
            assert_eq!(only(line).as_deref(), Ok(value), "{line:?}");
        }
    }

    #[test]
    fn regression_what_they_do_not_is_refused_by_name_and_not_shown() {
        for (line, why) in [
            ("sk-ab$cdEF12", VARIABLE),
            ("https://user:pa$$word@rpc.example/v1", VARIABLE),
            ("${HOME}/artifacts", VARIABLE),
            ("\"sk-ab$cdEF12\"", VARIABLE),
            ("sk-ab`cd`", QUOTE_INSIDE),
            ("it's-a-key", QUOTE_INSIDE),
            ("ab\"cd\"", QUOTE_INSIDE),
            ("ab\\cd", ESCAPE),
            ("\"ab\\ncd\"", ESCAPE),
            ("'sk-abcd", UNCLOSED),
            ("\"sk-abcd\\\"", UNCLOSED),
            ("'sk-ab'cd", BEHIND_QUOTES),
            ("'sk-ab'#cd", BEHIND_QUOTES),
            ("\u{201c}sk-abcd\u{201d}", TYPOGRAPHIC),
            ("ab\u{7}cd", CONTROL),
        ] {
            assert_eq!(only(line), Err(format!("NOVA_X in .env (line 2): {why}")), "{line:?}");
        }
    }

    #[test]
    fn lines_of_others_are_theirs() {
        let text = "\u{feff}# remark\n\nCOMPOSE_PROFILES=${PROFILE:-nova}\nOTHER_KEY=\"-----BEGIN\nabc=\n-----END\"\nOPEN='\nexport \
                    NOVA_GAS = 3\nnova\nNOVA_GAS=4\n";
        let mut mistakes = Vec::new();
        assert_eq!(read(".env", text, &mut mistakes), [("NOVA_GAS".to_owned(), "4".to_owned())]);
        assert_eq!(mistakes, [ConfigError(format!(".env (line 9): {NO_LINE}"))]);
    }

    #[test]
    fn regression_what_docker_hands_on_is_understood_or_refused() {
        for (text, value) in [
            ("'sk-ab$cd'", "sk-ab$cd"),
            ("\"https://one.example\"", "https://one.example"),
            ("\"5\" # gas", "5"),
            ("sk-ab$cd", "sk-ab$cd"),
            ("it's", "it's"),
            ("a\\b", "a\\b"),
            ("a#b", "a#b"),
            (" key\n", "key"),
        ] {
            assert_eq!(passed(text).as_deref(), Ok(value), "{text:?}");
        }
        for (text, why) in [
            ("5 # gas", REMARK),
            ("'sk-ab", UNCLOSED),
            ("sk-ab'", HALF_QUOTED),
            ("'sk'ab", BEHIND_QUOTES),
            ("\"sk-ab$cd\"", VARIABLE),
            ("one\ntwo", CONTROL),
            ("\u{2018}sk\u{2019}", TYPOGRAPHIC),
            ("sk\u{fffd}", NO_TEXT),
        ] {
            assert_eq!(passed(text), Err(why), "{text:?}");
        }
    }
}
