//! Who sees a circuit's inputs, outputs and parameters: the owner's choice, which a new `setup` keeps.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

/// Fields of EZKL's run arguments, and what they are where nobody has chosen.
const FIELDS: [(&str, &str); 3] =
    [("input_visibility", "public"), ("output_visibility", "public"), ("param_visibility", "fixed")];

/// What is asked for: of inputs, outputs and parameters, in EZKL's words (`public`, `private`, `fixed`, `hashed/public`,
/// `hashed/private/<outputs>`, `polycommit`).
pub type Asked = [Option<String>; 3];

/// Fields of the run arguments: what is asked for, else what the settings say that are there, else the usual.
///
/// # Errors
/// Settings that are there and cannot be read: what was private must not become public by accident.
pub fn choose(settings: &Path, asked: &Asked) -> Result<Map<String, Value>> {
    let all_asked = asked.iter().all(Option::is_some);
    let there = if settings.is_file() && !all_asked { read(settings)? } else { Map::new() };
    let mut fields = Map::new();
    for ((field, usual), asked) in FIELDS.into_iter().zip(asked) {
        let value = match (asked, there.get(field)) {
            (Some(asked), _) => asked.clone(),
            (None, Some(held)) => in_ezkls_words(held).with_context(|| format!("{field} in {}", settings.display()))?,
            (None, None) => usual.to_owned(),
        };
        fields.insert(field.to_owned(), value.into());
    }
    Ok(fields)
}

fn read(settings: &Path) -> Result<Map<String, Value>> {
    let read = || {
        let settings: Value = serde_json::from_slice(&std::fs::read(settings)?)?;
        let args = settings["run_args"].as_object().cloned().context("it has no run_args")?;
        ensure!(FIELDS.iter().all(|(field, _)| args.contains_key(*field)), "it names no visibilities");
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

/// EZKL writes another form than it reads: `{"Hashed": {"hash_is_public": false, "outlets": [0]}}` is `hashed/private/0`.
fn in_ezkls_words(written: &Value) -> Result<String> {
    match written {
        Value::String(name) => match name.to_lowercase().as_str() {
            "kzgcommit" => Ok("polycommit".to_owned()),
            known @ ("public" | "private" | "fixed" | "polycommit") => Ok(known.to_owned()),
            _ => bail!("{name:?} is no visibility that is known here"),
        },
        Value::Object(detailed) => {
            let hashed = detailed.get("Hashed").with_context(|| format!("{written} is unknown here"))?;
            if hashed["hash_is_public"] == true {
                return Ok("hashed/public".to_owned());
            }
            let outlets = hashed["outlets"].as_array().context("a private hash without outlets")?;
            let outlets: Vec<String> = outlets.iter().map(Value::to_string).collect();
            Ok(format!("hashed/private/{}", outlets.join(",")))
        }
        _ => bail!("{written} is no visibility"),
    }
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
        let hashed = json!({ "Hashed": { "hash_is_public": false, "outlets": [0, 2] } });
        let public = json!({ "Hashed": { "hash_is_public": true, "outlets": [] } });
        for (written, taken) in [
            (json!("Private"), "private"),
            (json!("Public"), "public"),
            (json!("Fixed"), "fixed"),
            (json!("KZGCommit"), "polycommit"),
            (hashed, "hashed/private/0,2"),
            (public, "hashed/public"),
        ] {
            let held = settings(json!({
                "input_visibility": written, "output_visibility": "Public", "param_visibility": "Fixed",
            }));
            let chosen = choose(held.path(), &NOTHING).unwrap();
            assert_eq!((&chosen["input_visibility"], &chosen["param_visibility"]), (&json!(taken), &json!("fixed")));
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
