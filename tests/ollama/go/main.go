// Fills in the TEMPLATE of Modelfiles with Go's own text/template, as Ollama up to 0.24 does: the same reading of the
// Modelfile, the same functions, the same types of messages, neighbours of one role joined.
//
// Reads a JSON list of {"modelfile", "chats"} and writes for each chat {"text"} or {"error"}.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// Message is what a template sees of one.
type Message struct {
	Role       string     `json:"role"`
	Content    string     `json:"content"`
	Thinking   string     `json:"thinking"`
	ToolCalls  []ToolCall `json:"tool_calls"`
	ToolName   string     `json:"tool_name"`
	ToolCallID string     `json:"tool_call_id"`
}

// ToolCall is a call in an assistant's message.
type ToolCall struct {
	Function struct {
		Index     int            `json:"index"`
		Name      string         `json:"name"`
		Arguments map[string]any `json:"arguments"`
	} `json:"function"`
}

type task struct {
	Modelfile string      `json:"modelfile"`
	Chats     [][]Message `json:"chats"`
}

type result struct {
	Text  string `json:"text"`
	Error string `json:"error,omitempty"`
}

var functions = template.FuncMap{
	"json": func(value any) string {
		text, _ := json.Marshal(value)
		return string(text)
	},
	"currentDate":   func(...string) string { return time.Now().Format("2006-01-02") },
	"yesterdayDate": func(...string) string { return time.Now().AddDate(0, 0, -1).Format("2006-01-02") },
}

// The value of TEMPLATE: up to three quotes at the end of a line, without what cannot be printed.
func templateOf(modelfile string) (string, error) {
	_, rest, found := strings.Cut("\n"+modelfile, "\nTEMPLATE \"\"\"")
	if !found {
		return "", errors.New("no TEMPLATE")
	}
	text, _, found := strings.Cut(rest, "\"\"\"\n")
	if !found {
		return "", errors.New("TEMPLATE has no end")
	}
	kept := func(r rune) rune {
		if strconv.IsPrint(r) || strings.ContainsRune(" \t\r\n", r) {
			return r
		}
		return -1
	}
	return strings.Map(kept, text), nil
}

// Neighbours of one role become one message, but for tools' results.
func joined(messages []Message) (system string, all []*Message) {
	var systems []string
	for i := range messages {
		message := messages[i]
		if message.Role == "system" {
			systems = append(systems, message.Content)
		}
		if n := len(all); n > 0 && message.Role != "tool" && all[n-1].Role == message.Role {
			all[n-1].Content += "\n\n" + message.Content
			continue
		}
		all = append(all, &message)
	}
	return strings.Join(systems, "\n\n"), all
}

func fill(parsed *template.Template, messages []Message) (string, error) {
	system, all := joined(messages)
	var text strings.Builder
	err := parsed.Execute(&text, map[string]any{
		"System": system, "Messages": all, "Tools": []any(nil), "Response": "", "Think": false, "IsThinkSet": false,
	})
	return text.String(), err
}

func main() {
	var tasks []task
	if err := json.NewDecoder(os.Stdin).Decode(&tasks); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	all := [][]result{}
	for _, task := range tasks {
		text, err := templateOf(task.Modelfile)
		var parsed *template.Template
		if err == nil {
			parsed, err = template.New("").Option("missingkey=zero").Funcs(functions).Parse(text)
		}
		results := []result{}
		for _, chat := range task.Chats {
			filled, problem := "", err
			if problem == nil {
				filled, problem = fill(parsed, chat)
			}
			if problem != nil {
				results = append(results, result{Error: problem.Error()})
			} else {
				results = append(results, result{Text: filled})
			}
		}
		all = append(all, results)
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(all); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
