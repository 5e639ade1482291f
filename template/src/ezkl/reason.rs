//! Why EZKL refuses: what it says, what it logs meanwhile, and what that means. Of a number that does not fit, its error says no
//! more than "General synthesis error"; the number is in its log.

use std::fmt;

use super::worker::Failure;
use crate::sanitize;

/// Lines of a call's log that are kept: the last ones.
pub(crate) const MAX_LINES: usize = 64;
/// Characters of EZKL's own words that are repeated.
const MAX_REPEATED: usize = 600;
/// Parts of lines that tell nothing: what they stand for is in another line, or nowhere.
const EMPTY: [&str; 5] = [
    "General synthesis error",
    "could not find any suitable parameters",
    "Calibration failed for the following reasons",
    "Numerical Fidelity Report",
    "scale values (",
];
/// Below this it is the model that makes large numbers.
const LARGE_INPUT: f64 = 16.0;
/// What EZKL 23.0.5 computes 1/0 as, in steps of the output's scale 2^0: 1 / its epsilon (`zero_recip` in src/tensor/ops.rs).
const LOG2_OF_ONE_BY_ZERO: u32 = 52;

/// EZKL's refusal of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error that it raised, and below it what it logged, each line once, without what tells nothing.
    lines: Vec<String>,
}

/// A refusal that is understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// A number of so many steps of the fixed point cannot be written in so many digits of this base.
    BeyondReach { steps: f64, base: u32, digits: u32 },
    /// 1/0.
    DivisionByZero,
    /// The values that one function looks up spread over so many steps.
    TableTooLong { rows: f64 },
    /// Tables and checks need more columns than fit.
    TooManyColumns { logrows: u32 },
    /// An operator that EZKL does not know, and the node where it says which.
    Operator { name: String, node: Option<String> },
    /// A node that EZKL cannot take as the model has it.
    Node { operator: String, node: String },
    /// tract, which reads the model for EZKL, or what EZKL makes of its graph, does not get past the shapes around an operator.
    Shapes,
    /// Another one, in words: what it means and what to do.
    Known(&'static str),
}

/// What EZKL says → what it means, and what to do. The first that fits counts.
const KNOWN: [(&str, &str); 14] = [
    (
        "Undetermined symbol",
        "a size in the model's graph is not fixed: a dimension has a name, or an operator's output is as long as the values make it \
         (NonZero, Unique). Export the model with fixed sizes and a batch of one",
    ),
    (
        "Translating proto model",
        "the model's graph has an operator of another domain or opset than EZKL reads: export it with the plain operators of ONNX \
         (docs/operators.md)",
    ),
    ("Reading proto model", "the file is no ONNX model, or is cut off"),
    ("batch_size", "the first dimension of the model's input is not fixed: export the model with a batch of one"),
    (
        "division by constants",
        "the circuit divides by constants only: multiply by a reciprocal, or divide in pre_process",
    ),
    ("constant exponents", "the circuit raises to constant powers only: compute the power in pre_process"),
    ("(pow)", "the circuit raises to constant powers only: compute the power in pre_process"),
    (
        "at least one set of public variables",
        "nothing of the circuit is public, so a proof would show nothing: make the outputs public (--output-visibility)",
    ),
    (
        "evenly divisible",
        "the sample's rows have another number of values than the model's inputs: pre_process and model do not belong together",
    ),
    (
        "unsupported operation in graph",
        "the circuit has no form of one of the model's operators: docs/operators.md says which it has",
    ),
    (
        "constraint system is not satisfied",
        "the proof does not hold for this circuit: keys, circuit and SRS do not belong together, or the witness breaks a constraint",
    ),
    ("failed to load pk", "the proving key is not there, is damaged or is of another EZKL: run `nova setup`"),
    ("is too small for the given circuit", "the circuit has more rows than its columns: run `nova setup` again"),
    (
        "not satisfied",
        "a constraint of the circuit does not hold for this input: a value is beyond its lookup tables, or rounds to a tie",
    ),
];

impl Refusal {
    /// Of the error that EZKL raised and what it logged during the call.
    pub(crate) fn new(error: &str, log: &[String]) -> Self {
        let mut lines: Vec<String> = Vec::new();
        for line in error.lines().chain(log.iter().map(String::as_str)) {
            let line = bare(line);
            if !line.is_empty() && !lines.contains(&line) {
                lines.push(line);
            }
        }
        if lines.iter().any(|line| !is_empty(line)) {
            lines.retain(|line| !is_empty(line));
        }
        Self { lines }
    }

    /// The refusal that an error is about.
    pub fn in_error(error: &anyhow::Error) -> Option<&Self> {
        error.chain().find_map(|cause| match cause.downcast_ref() {
            Some(Failure::Refused(refusal)) => Some(refusal),
            _ => None,
        })
    }

    /// What it means, where that is known.
    pub fn cause(&self) -> Option<Cause> {
        self.found().map(|(cause, _)| cause)
    }

    /// The cause, and the line that shows it.
    fn found(&self) -> Option<(Cause, &str)> {
        let find = |read: fn(&str) -> Option<Cause>| {
            self.lines.iter().find_map(|line| read(line).map(|cause| (cause, line.as_str())))
        };
        let known = |&(said, means): &(&str, &'static str)| {
            let line = self.lines.iter().find(|line| line.contains(said))?;
            Some((Cause::Known(means), line.as_str()))
        };
        // Of the scales that calibration tries the coarsest fails last: where its table is too long, no reach helps.
        find(too_long)
            .or_else(|| find(too_many_columns))
            .or_else(|| find(beyond_reach))
            .or_else(|| find(operator))
            .or_else(|| {
                find(|line| {
                    ["running pass", "assertion"].iter().any(|said| line.contains(said)).then_some(Cause::Shapes)
                })
            })
            .or_else(|| KNOWN.iter().find_map(known))
    }
}

impl Cause {
    /// True if smaller inputs would help.
    pub fn is_of_values(&self) -> bool {
        matches!(self, Self::BeyondReach { .. } | Self::TableTooLong { .. } | Self::TooManyColumns { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |said: &str| sanitize::truncate(&sanitize::escape_control_chars(said), MAX_REPEATED).into_owned();
        if let Some((cause, line)) = self.found() {
            return write!(f, "{cause} (EZKL: {})", words(line));
        }
        let words = words(&self.lines.join("; "));
        if self.lines.iter().all(|line| is_empty(line)) {
            return write!(
                f,
                "EZKL gives no reason but its {words:?}: a value or an operator of the model has no form in the circuit"
            );
        }
        write!(f, "EZKL: {words}")
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondReach { steps, base, digits } => write!(
                f,
                "a number in the circuit reaches {steps:.1e} steps of its fixed point, and its comparisons and range checks reach \
                 {:.1e} ({digits} digits of base {base})",
                f64::from(*base).powi(i32::try_from(*digits).unwrap_or(i32::MAX))
            ),
            Self::DivisionByZero => f.write_str(
                "the circuit divides by zero, in a branch that is not taken too: let the model divide by a number that is never zero",
            ),
            Self::TableTooLong { rows } => write!(
                f,
                "the values that a function looks up span {rows:.1e} steps of the fixed point, and its table would need as many rows"
            ),
            Self::TooManyColumns { logrows } => write!(
                f,
                "lookup tables and range checks need more columns of 2^{logrows} rows than a circuit may have"
            ),
            Self::Operator { name, node } => {
                let node = node.as_ref().map_or_else(String::new, |node| format!(" (node {node:?})"));
                write!(
                    f,
                    "EZKL does not know the operator {name}{node}: docs/operators.md says which can be used, and what stands for others"
                )
            }
            Self::Node { operator, node } => write!(
                f,
                "EZKL cannot take the node {node:?} ({operator}): another node has its name, or an input has a type or shape that EZKL does \
                 not take here (docs/operators.md)"
            ),
            Self::Shapes => f.write_str(
                "EZKL, or tract, its reader of models, does not get past the shapes around one of the operators: write a Reshape, Transpose, \
                 Squeeze or Unsqueeze otherwise or leave it out, or export the model with another opset, 9 to 18 (docs/operators.md)",
            ),
            Self::Known(means) => f.write_str(means),
        }
    }
}

/// What to do where a number does not fit: the inputs that reach furthest, each with its column and value.
pub fn about_inputs(largest: &[(String, f64)]) -> String {
    let reach = |(label, value): &(String, f64)| format!("{label} reaches {:.1e}", value.abs());
    let said = largest.iter().map(reach).collect::<Vec<_>>().join(", ");
    match largest {
        [(_, value), ..] if value.abs() < LARGE_INPUT => {
            format!(
                "{said}, and no input reaches further: the model makes large numbers of small ones, scale its weights"
            )
        }
        [_] => format!("{said}: scale it in pre_process"),
        _ => format!("{said}: scale them in pre_process"),
    }
}

/// `integer 208306225152 is too large to be represented by base 1024 and n 3`
fn beyond_reach(line: &str) -> Option<Cause> {
    let (_, rest) = line.split_once("integer ")?;
    let (integer, rest) = rest.split_once(" is too large to be represented by base ")?;
    let (base, digits) = rest.split_once(" and n ")?;
    let steps: i128 = integer.parse().ok()?;
    let magnitude = steps.unsigned_abs();
    if magnitude.is_power_of_two()
        && magnitude.trailing_zeros() >= LOG2_OF_ONE_BY_ZERO
        && magnitude.trailing_zeros() < 127
    {
        return Some(Cause::DivisionByZero);
    }
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    Some(Cause::BeyondReach { steps: magnitude as f64, base: base.parse().ok()?, digits: digits.parse().ok()? })
}

/// `lookup range 811503452180 is too large`
fn too_long(line: &str) -> Option<Cause> {
    let (_, rest) = line.split_once("lookup range ")?;
    let (rows, _) = rest.split_once(" is too large")?;
    Some(Cause::TableTooLong { rows: rows.parse().ok()? })
}

/// `extended k is too large to accommodate the quotient polynomial with logrows 26`
fn too_many_columns(line: &str) -> Option<Cause> {
    let (_, logrows) =
        line.split_once("extended k is too large to accommodate the quotient polynomial with logrows ")?;
    Some(Cause::TooManyColumns { logrows: logrows.trim().parse().ok()? })
}

/// `Translating node #1 "y" Unimplemented(Gelu) ToTypedTranslator`, `Unknown op: NonZero`, `Translating node #7 "add" Add ToTyped…`
fn operator(line: &str) -> Option<Cause> {
    if let Some((before, after)) = line.split_once("Unimplemented(") {
        let node = before.split('"').nth(1).filter(|node| !node.is_empty()).map(str::to_owned);
        return Some(Cause::Operator { name: after.split(')').next()?.to_owned(), node });
    }
    if let Some((_, name)) = line.split_once("Unknown op: ") {
        return Some(Cause::Operator { name: name.trim().to_owned(), node: None });
    }
    let (_, after) = line.split_once("Translating node #")?;
    let (_, after) = after.split_once('"')?;
    let (node, operator) = after.split_once('"')?;
    Some(Cause::Node { operator: operator.split_whitespace().next()?.to_owned(), node: node.to_owned() })
}

fn is_empty(line: &str) -> bool {
    EMPTY.iter().any(|part| line.contains(part))
}

/// A line without colours, the log's prefix, and what calibration puts before each reason.
fn bare(line: &str) -> String {
    let line = without_colours(line);
    let mut rest = line.trim();
    // `[2026-11-29T12:00:00Z ERROR ezkl::execute] `, `[E] [12:00:00s, ezkl] - `: other parts in brackets are of the error itself.
    while let Some((bracket, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        if !bracket.split(|c: char| !c.is_alphanumeric()).any(|word| word == "ezkl" || LEVELS.contains(&word)) {
            break;
        }
        rest = after.trim_start_matches([' ', ':', '-']);
    }
    for level in LEVELS {
        rest = rest.strip_prefix(level).and_then(|after| after.strip_prefix([' ', ':'])).unwrap_or(rest).trim_start();
    }
    if rest.starts_with("i-scale: ")
        && let Some((_, reason)) = rest.split_once("reason: ")
    {
        rest = reason;
    }
    // Tables of figures, drawn with lines.
    if rest.starts_with(['+', '|', '<']) { String::new() } else { rest.to_owned() }
}

const LEVELS: [&str; 11] = ["ERROR", "WARNING", "WARN", "INFO", "DEBUG", "TRACE", "E", "W", "I", "D", "T"];

/// Without the sequences that colour a terminal's text: ESC `[` … a letter.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
        rest = rest.get(1..).unwrap_or_default();
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(error: &str, log: &[&str]) -> Refusal {
        Refusal::new(error, &log.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
    }

    const NOTHING_SAID: &str = "Failed to calibrate settings: [Uncategorized] calibration failed, could not find any suitable \
                                parameters given the calibration dataset";

    #[test]
    fn number_beyond_reach_is_told_from_the_log() {
        let refused = refusal(
            NOTHING_SAID,
            &[
                "ERROR [tensor] decomposition error: integer -208306225152 is too large to be represented by base 1024 and n 3",
                "ERROR forward pass failed: \"failed to forward: [halo2] General synthesis error\"",
                "Calibration failed for the following reasons:",
                "i-scale: \u{1b}[34m7\u{1b}[0m, p-scale: 7, rebase-(x): 1, reason: failed to forward: [halo2] General synthesis error",
            ],
        );
        assert_eq!(refused.cause(), Some(Cause::BeyondReach { steps: 208_306_225_152.0, base: 1024, digits: 3 }));
        let told = refused.to_string();
        assert!(told.contains("2.1e11 steps") && told.contains("reach 1.1e9 (3 digits of base 1024)"), "{told}");
        assert!(
            !told.contains("General synthesis") && !told.contains("suitable") && !told.contains('\u{1b}'),
            "{told}"
        );
    }

    #[test]
    fn each_refusal_that_is_known_says_what_to_do() {
        for (said, means) in [
            ("[graph] [tract] Undetermined symbol in expression: <Sym0>", "fixed sizes and a batch of one"),
            (
                "[tract] Translating node #1 \"gate\" Unimplemented(Gelu) ToTypedTranslator",
                "operator Gelu (node \"gate\")",
            ),
            ("[tract] Translating node #7 \"add\" Add ToTypedTranslator", "node \"add\" (Add)"),
            ("[tract] Translating proto model to model", "docs/operators.md"),
            ("[graph] [tract] running pass ChangeAxes", "the shapes around one of the operators"),
            ("assertion failed: self.dims[i] > indices[i]", "the shapes around one of the operators"),
            (
                "[circuit] [tensor] decomposition error: integer 9223372036854775808 is too large to be represented by base 1024 \
              and n 3",
                "divides by zero",
            ),
            ("lookup range 811503452180 is too large", "8.1e11 steps"),
            (
                "extended k is too large to accommodate the quotient polynomial with logrows 26",
                "more columns of 2^26 rows",
            ),
            (
                "Failed to run mock: [execute] verification failed:\nLookup (index: 0) is not satisfied in Region 5",
                "lookup tables",
            ),
            ("Equality constraint not satisfied by cell (Column('Advice', 1 - ), in Region 4)", "rounds to a tie"),
            ("[pfsys] failed to load pk from file: unexpected version byte", "nova setup"),
            ("The constraint system is not satisfied", "do not belong together"),
            ("invalid dimensions used for node 1 (pow)", "pre_process"),
        ] {
            let told = refusal(said, &[]).to_string();
            assert!(told.contains(means) && told.contains("EZKL"), "{said}: {told}");
        }
        let told = refusal("[halo2] General synthesis error", &["Unknown op: Rem", "unsupported operation in graph"]);
        assert!(told.to_string().contains("operator Rem"), "{told}");
    }

    #[test]
    fn empty_phrase_is_never_all_that_is_said() {
        for said in ["[halo2] General synthesis error", NOTHING_SAID, ""] {
            let told = refusal(said, &[]).to_string();
            assert!(told.contains("no form in the circuit"), "{told}");
        }
    }

    #[test]
    fn words_are_bare_distinct_and_of_bounded_length() {
        let log = [
            "[2026-11-29T12:00:00Z ERROR ezkl::execute] first",
            "\u{1b}[31m[E]\u{1b}[0m [12:00:00s, ezkl::execute] - second",
            "WARNING first",
            "+----+",
            "| 1  |",
            "third\r\u{7}",
        ];
        let told = refusal("[graph] odd", &log).to_string();
        assert_eq!(told, r"EZKL: [graph] odd; first; second; third\r\u{7}");
        let long = refusal(&"x".repeat(5_000), &[]).to_string();
        assert!(long.chars().count() < 700, "{long}");
    }
}
