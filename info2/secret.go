package info2

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"sync"
)

// SecretError says that a text looks like a secret. It is an ErrSecret.
type SecretError struct {
	What string // for people: "a private key", "a card number"
}

// Error says what the text looks like, and why that matters.
func (e *SecretError) Error() string {
	return fmt.Sprintf("info2: the text looks like %s, and everybody on the network would read it", e.What)
}

// Is makes it an ErrSecret.
func (e *SecretError) Is(target error) bool { return target == ErrSecret }

// secretForms are texts that give themselves away. (memo 5.1: cookie or password
// files.)
var secretForms = [...]struct {
	what string
	form func() *regexp.Regexp
}{
	{"a private key", lazily(`(?i)-----BEGIN [A-Z ]*PRIVATE KEY|AGE-SECRET-KEY-1|\bPuTTY-User-Key-File`)},
	{"a password", lazily(`(?i)\b(pass(word|wort|phrase|code|wd)?|pwd|kennwort|pin|secret|geheimnis)\b["']?\s*(is|ist|lautet)?\s*[:=]\s*\S`)},
	{"a password", lazily(`(?i)\b(my|the|mein|das|dein|your)\s+(password|passphrase|passwort|kennwort|pin)\s+(is|ist|lautet)\s+\S`)},
	{"a password file", lazily(`(^|\s)[a-z_][a-z0-9_-]*:([x*!]|\$\w+\$[^:\s]+):\d+:|\$(1|2[aby]|5|6|7|y|argon2id?)\$[^\s$]+\$`)},
	{"a password in a link", lazily(`(?i)\b[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@`)},
	{"a cookie", lazily(`(?i)\b(set-)?cookie\s*:|\b(php)?sess(ion)?_?id\s*=\s*\S|\t(TRUE|FALSE)\t/\S*\t(TRUE|FALSE)\t\d+\t`)},
	{"an access token", lazily(`\b(gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|sk-|sk_live_|rk_live_|AKIA|ASIA|AIza|ya29\.|npm_|dop_v1_|hf_)[A-Za-z0-9_-]{12,}`)},
	{"an access token", lazily(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`)},
	{"an access token", lazily(`(?i)\bauthorization\s*:|\bbearer\s+[a-z0-9._~+/-]{16,}|\b(api|access|auth|secret)[_-]?(key|token)["']?\s*[:=]\s*\S`)},
}

var (
	digitRuns = lazily(`\d(?:[ -]?\d){12,18}`)
	longWords = lazily(`[A-Za-z0-9+/_=-]{32,}`)
	anodeForm = lazily(`^[a-z2-7]{64}$`)
)

// lazily compiles an expression when it is first used: few runs of a program look at a text.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// LooksSecret returns what secret a text looks like, "" if none. It knows private
// keys, passwords, cookies, tokens and card numbers, and takes long random words
// for keys; Anode addresses are no secrets. It is a question to people, not a
// filter: it errs both ways.
func LooksSecret(text string) string {
	for _, s := range secretForms {
		if s.form().MatchString(text) {
			return s.what
		}
	}
	for _, run := range digitRuns().FindAllString(text, -1) {
		if isCardNumber(run) {
			return "a card number"
		}
	}
	for _, word := range strings.Fields(text) {
		if strings.Contains(word, "://") || anodeForm().MatchString(word) {
			continue
		}
		if w := longWords().FindString(word); w != "" && isRandom(w) {
			return "a key"
		}
	}
	return ""
}

// isCardNumber checks the sum of ISO/IEC 7812 over 13 to 19 digits.
func isCardNumber(s string) bool {
	sum, n, first := 0, 0, byte(0)
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] < '0' || s[i] > '9' {
			continue
		}
		d := int(s[i] - '0')
		if n++; n%2 == 0 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
		first = s[i]
	}
	// Payment cards begin with 2 to 6 (major industry).
	return n >= 13 && n <= 19 && sum%10 == 0 && first >= '2' && first <= '6'
}

// isRandom reports whether a long word holds letters and digits so mixed that no
// person has made it up: hex keys have nearly 4 bits a character, base64 more.
func isRandom(w string) bool {
	if !strings.ContainsAny(w, "0123456789") || strings.Trim(w, "0123456789") == "" {
		return false
	}
	var count [256]int
	for i := range len(w) {
		count[w[i]]++
	}
	bits := 0.0
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(w))
			bits -= p * math.Log2(p)
		}
	}
	return bits > 3
}
