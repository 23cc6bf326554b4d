//! Just enough reading of Rust for the checks: code without comments, texts and tests.
//!
//! What is left out is blanked, not removed, so that lines and columns stay where they were.

/// The code with the inside of comments, strings and character literals blanked.
pub(crate) fn code(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut out = letters.clone();
    let mut at = 0;
    while at < letters.len() {
        let end = match (letters[at], letters.get(at + 1)) {
            ('/', Some('/')) => find(&letters, at, |at| letters[at] == '\n'),
            ('/', Some('*')) => block_comment_end(&letters, at),
            ('"', _) => string_end(&letters, at),
            ('r', Some('"' | '#')) if !follows_word(&letters, at) => raw_string_end(&letters, at),
            ('\'', Some('\\')) => find(&letters, at + 3, |at| letters[at] == '\'') + 1,
            ('\'', Some(_)) if letters.get(at + 2) == Some(&'\'') => at + 3,
            _ => {
                at += 1;
                continue;
            }
        };
        let end = end.min(letters.len()).max(at + 1);
        for blank in &mut out[at..end] {
            if *blank != '\n' {
                *blank = ' ';
            }
        }
        at = end;
    }
    out.into_iter().collect()
}

/// The code as [`code`] has it, with every item under `#[cfg(test)]` blanked too.
pub(crate) fn shipped(text: &str) -> String {
    let mut code = code(text);
    while let Some(start) = code.find("#[cfg(test)]") {
        let end = item_end(&code, start);
        let blank: String = code[start..end]
            .chars()
            .map(|letter| if letter == '\n' { '\n' } else { ' ' })
            .collect();
        code.replace_range(start..end, &blank);
    }
    code
}

/// Whether a file holds nothing but tests.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "benches"))
}

fn find(letters: &[char], from: usize, is_it: impl Fn(usize) -> bool) -> usize {
    (from..letters.len()).find(|&at| is_it(at)).unwrap_or(letters.len())
}

fn follows_word(letters: &[char], at: usize) -> bool {
    at > 0 && (letters[at - 1].is_alphanumeric() || letters[at - 1] == '_')
}

fn block_comment_end(letters: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at + 1 < letters.len() {
        match (letters[at], letters[at + 1]) {
            ('/', '*') => {
                depth += 1;
                at += 2;
            }
            ('*', '/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    letters.len()
}

fn string_end(letters: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < letters.len() {
        match letters[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    letters.len()
}

fn raw_string_end(letters: &[char], from: usize) -> usize {
    let quote = find(letters, from + 1, |at| letters[at] != '#');
    if letters.get(quote) != Some(&'"') {
        // A raw identifier.
        return from + 1;
    }
    let n_hashes = quote - from - 1;
    let closes =
        |at: usize| letters[at] == '"' && (1..=n_hashes).all(|n| letters.get(at + n) == Some(&'#'));
    find(letters, quote + 1, closes) + 1 + n_hashes
}

/// Where the item that starts here ends: at its closing brace or its semicolon.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    let mut in_attribute = 0_usize;
    for (at, letter) in code[start..].char_indices() {
        match letter {
            '[' => in_attribute += 1,
            ']' => in_attribute = in_attribute.saturating_sub(1),
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return start + at + 1;
                }
            }
            ';' if depth == 0 && in_attribute == 0 => return start + at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_blanked_and_lines_stay() {
        let text =
            "let a = \"x \\\" // y\"; // z\nlet b = r#\"q\"q\"#; /* m /* n */ o */ let c = '\"';\n";
        let code = code(text);
        assert_eq!(code.chars().count(), text.chars().count());
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["let", "a", "=", ";", "let", "b", "=", ";", "let", "c", "=", ";"]);
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn lifetimes_are_no_texts() {
        assert_eq!(code("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
    }

    #[test]
    fn tests_are_blanked() {
        let text = "use a;\n#[cfg(test)]\nmod tests {\n fn x() { b(); }\n}\n\
                    #[cfg(test)]\nuse c;\nuse d;\n";
        let words: String = shipped(text).split_whitespace().collect();
        assert_eq!(words, "usea;used;");
    }
}
