//! What a hook may ask for: the request it works on, and the files that training exported.
