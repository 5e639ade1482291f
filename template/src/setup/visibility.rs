//! Who sees a circuit's inputs, outputs and parameters: the owner's choice, which a new `setup` keeps.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

use crate::ezkl::settings::{SERVED, Visibility};

/// What is asked for: of inputs, outputs and parameters, in EZKL's words.
pub type Asked = [Option<String>; 3];

/// Fields of the run arguments: what is asked for, else what the settings say that are there, else the usual, which is the first of
/// those that can be served.
///
/// # Errors
/// Settings that are there and cannot be read: what was private must not become public by accident. A visibility with which no
/// answer could be proven.
pub fn choose(settings: &Path, asked: &Asked) -> Result<Map<String, Value>> {
    let all_asked = asked.iter().all(Option::is_some);
    let there = if settings.is_file() && !all_asked { read(settings)? } else { Map::new() };
    let mut fields = Map::new();
    for ((field, served), asked) in SERVED.into_iter().zip(asked) {
        let value = match (asked, there.get(field)) {
            (Some(asked), _) => asked.clone(),
            (None, Some(held)) => serde_json::from_value::<Visibility>(held.clone())
                .with_context(|| format!("{field} in {} is {held}", settings.display()))?
                .in_words(),
            (None, None) => served[0].to_owned(),
        };
        ensure!(
            served.contains(&value.as_str()),
            "{field} {value}: answers of such a circuit cannot be proven, or their proofs bind nothing. Say one of {} with --{}",
            served.join(", "),
            field.replace('_', "-")
        );
        fields.insert(field.to_owned(), value.into());
    }
    Ok(fields)
}

fn read(settings: &Path) -> Result<Map<String, Value>> {
    let read = || {
        let settings: Value = serde_json::from_slice(&std::fs::read(settings)?)?;
        let args = settings["run_args"].as_object().cloned().context("it has no run_args")?;
        ensure!(SERVED.iter().all(|(field, _)| args.contains_key(*field)), "it names no visibilities");
        anyhow::Ok(args)
    };
    read().with_context(|| {
        format!(
            "cannot tell from {} who may see inputs, outputs and parameters. Bring the file back, or say it with \
             --input-visibility, --output-visibility and --param-visibility",
            settings.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOTHING: Asked = [None, None, None];

    fn settings(args: Value) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json!({ "run_args": args }).to_string()).unwrap();
        file
    }

    #[test]
    fn what_was_chosen_stays_in_the_words_that_ezkl_takes() {
        let hashed = json!({ "Hashed": { "hash_is_public": true, "outlets": [] } });
        for (written, taken) in [(json!("Private"), "private"), (json!("Public"), "public"), (hashed, "hashed/public")]
        {
            let held = settings(json!({
                "input_visibility": written, "output_visibility": "Public", "param_visibility": "Fixed",
            }));
            let chosen = choose(held.path(), &NOTHING).unwrap();
            assert_eq!((&chosen["input_visibility"], &chosen["param_visibility"]), (&json!(taken), &json!("fixed")));
        }
    }

    /// What was made before such were refused, and what is asked for in EZKL's own words.
    #[test]
    fn regression_a_visibility_that_cannot_be_served_is_refused() {
        let refused = |held: Option<Value>, asked: &Asked| {
            let held = held.map(settings);
            let path = held.as_ref().map_or(Path::new("/nowhere"), |held| held.path());
            choose(path, asked).unwrap_err().to_string()
        };
        let hashed = json!({ "Hashed": { "hash_is_public": false, "outlets": [0, 2] } });
        for (written, words) in
            [(json!("KZGCommit"), "polycommit"), (json!("Fixed"), "fixed"), (hashed, "hashed/private/0,2")]
        {
            let error = refused(
                Some(json!({"input_visibility": written, "output_visibility": "Public", "param_visibility": "Fixed"})),
                &NOTHING,
            );
            assert!(
                error.contains(&format!("input_visibility {words}:")) && error.contains("--input-visibility"),
                "{error}"
            );
        }
        for asked in ["private", "fixed", "polycommit", "hashed/private/0"] {
            let error = refused(None, &[None, Some(asked.to_owned()), None]);
            assert!(error.contains("bind nothing") && error.contains("public, hashed/public"), "{error}");
        }
        for asked in ["public", "polycommit"] {
            assert!(refused(None, &[None, None, Some(asked.to_owned())]).contains("fixed, hashed/public, private"));
        }
    }

    #[test]
    fn what_is_asked_for_goes_before_and_the_usual_comes_last() {
        let asked = [Some("private".to_owned()), None, None];
        let chosen = choose(Path::new("/nowhere"), &asked).unwrap();
        assert_eq!(chosen["input_visibility"], "private");
        assert_eq!((&chosen["output_visibility"], &chosen["param_visibility"]), (&json!("public"), &json!("fixed")));
    }

    #[test]
    fn settings_that_cannot_be_read_make_nothing_public() {
        for broken in [json!(null), json!({}), json!({ "input_visibility": "Private" })] {
            let error = format!("{:#}", choose(settings(broken).path(), &NOTHING).unwrap_err());
            assert!(error.contains("--input-visibility"), "{error}");
        }
        let odd = json!({ "input_visibility": "Odd", "output_visibility": "Public", "param_visibility": "Fixed" });
        assert!(choose(settings(odd).path(), &NOTHING).is_err());
    }
}
