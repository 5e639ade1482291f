//! The rules of JSON-RPC 2.0 for a call, as strict nodes apply them: what one of them refuses, each stand-in here refuses.
//! <https://www.jsonrpc.org/specification>, section 4.

use serde_json::Value;

/// The code that strict nodes refuse such a call with ("Invalid Request").
pub const INVALID_REQUEST: i64 = -32600;

/// # Errors
/// Names the rule that the call breaks.
pub fn check_call(call: &Value) -> Result<(), String> {
    let call = call.as_object().ok_or("a call is an object")?;
    if call.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err("\"jsonrpc\" is \"2.0\"".to_owned());
    }
    match call.get("method").and_then(Value::as_str) {
        None | Some("") => return Err("\"method\" is a string".to_owned()),
        Some(method) if method.starts_with("rpc.") => return Err(format!("{method} is reserved")),
        Some(_) => {}
    }
    match call.get("params") {
        None | Some(Value::Array(_) | Value::Object(_)) => {}
        Some(other) => return Err(format!("\"params\" is a list, an object or absent, not {other}")),
    }
    match call.get("id") {
        Some(Value::String(_)) => Ok(()),
        Some(Value::Number(id)) if id.is_i64() || id.is_u64() => Ok(()),
        None => Err("without \"id\" it is a notification, which gets no response".to_owned()),
        Some(other) => Err(format!("\"id\" is a string or a whole number, not {other}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_that_nodes_take_pass() {
        for params in [json!([]), json!(["0x1", "latest"]), json!({})] {
            assert_eq!(check_call(&json!({"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": params})), Ok(()));
        }
        assert_eq!(check_call(&json!({"jsonrpc": "2.0", "id": "a", "method": "eth_chainId"})), Ok(()));
    }

    #[test]
    fn calls_that_break_a_rule_are_refused_by_it() {
        for (call, rule) in [
            (json!({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": null}), "params"),
            (json!({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": "0x1"}), "params"),
            (json!({"id": 1, "method": "eth_chainId", "params": []}), "jsonrpc"),
            (json!({"jsonrpc": 2.0, "id": 1, "method": "eth_chainId", "params": []}), "jsonrpc"),
            (json!({"jsonrpc": "2.0", "id": 1, "params": []}), "method"),
            (json!({"jsonrpc": "2.0", "method": "eth_chainId", "params": []}), "id"),
            (json!({"jsonrpc": "2.0", "id": null, "method": "eth_chainId", "params": []}), "id"),
            (json!({"jsonrpc": "2.0", "id": 0.5, "method": "eth_chainId", "params": []}), "id"),
            (json!([]), "object"),
        ] {
            let error = check_call(&call).unwrap_err();
            assert!(error.contains(rule), "{call}: {error}");
        }
    }
}
