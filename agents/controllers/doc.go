// Package controllers holds no code: each controller is a package below it, a
// pure decider with its transcripts. The tests here run them together, against
// the API as people and programs use it.
package controllers
