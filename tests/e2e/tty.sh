# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# A terminal, as a user has one: tmux is the terminal, and its screen is what is looked at.

# Each terminal has a server of its own: one that was just told to end may take a new one with it.
socket='' terminals=0
screen() { tmux -L "$socket" capture-pane -p -t main 2>&1; }
shows() { screen | grep -qE -- "$1"; }
keys() { tmux -L "$socket" send-keys -t main "$@"; }
# expect_screen REGEX: waits until a line of the screen matches.
expect_screen() { wait_until shows "$1" || fail "no \"$1\" on the screen: $(screen | grep -v '^$' | tail -n 8)"; }
terminal() { # COLUMNS ROWS COMMAND
	socket=wisp-$$-$((terminals += 1))
	TERM=xterm tmux -L "$socket" -f /dev/null new-session -d -s main -x "$1" -y "$2" "$3; sleep 1000"
}
no_terminal() { tmux -L "$socket" kill-server; }

t_terminal_session() {
	check create wisp create -n box >/dev/null
	terminal 100 30 'wisp exec -t box'
	expect_screen '^/ #'
	keys 'stty size; tty; stty -a | grep -o "[-a-z]*iutf8"' Enter
	expect_screen '^30 100'
	expect_screen '^iutf8'
	expect_screen '^/dev/pts/'
	tmux -L "$socket" resize-window -t main -x 80 -y 24
	wait_until sh -c "tmux -L $socket send-keys -t main 'stty size' Enter; sleep 0.3; tmux -L $socket capture-pane -p -t main | grep -q '^24 80'" ||
		fail "the new size did not arrive: $(screen)"
	# A full-screen program, and what it wrote.
	keys 'clear; vi /tmp/f' Enter
	expect_screen '^~'
	keys 'ihello from vi' Escape
	expect_screen 'hello from vi'
	sleep 1 # an escape and a key right after it are one key to vi
	keys ':wq' Enter
	expect_screen '^/ #'
	equal "what vi wrote" "$(wisp exec box -- cat /tmp/f </dev/null)" "hello from vi"
	# Detached, it goes on; attached again, it is the same shell, which ends with its own code.
	keys 'clear; (sleep 2; echo la""te) & sleep 1000' Enter
	sleep 1
	keys C-]
	expect_screen 'detached from session'
	check "it runs on" grep -q running <(wisp sessions box)
	no_terminal
	terminal 90 20 "wisp attach box 1; echo code \$?; stty -a"
	expect_screen 'late'
	keys C-c
	keys 'exit 5' Enter
	expect_screen '^code 5'
	expect_screen '[^-]icanon' # the terminal is as it was
	no_terminal
	check stop wisp stop box
	check rm wisp rm box
}

# The client dies by a signal: its terminal is set back all the same, the session goes on.
t_terminal_is_set_back_on_sigterm() {
	check create wisp create -n box >/dev/null
	terminal 80 24 "wisp exec -t box -- sh -c 'echo up; sleep 1000'; echo code \$?; stty -a"
	expect_screen '^up'
	pkill -TERM -x wisp
	expect_screen '^code'
	expect_screen '[^-]icanon'
	check "it runs on" grep -q running <(wisp sessions box)
	no_terminal
	check stop wisp stop box
	check rm wisp rm box
}

# tmux answers where the cursor is: once, when the program asks, and not again when its output is shown again.
t_terminal_queries_are_not_replayed() {
	check create wisp create -n box >/dev/null
	terminal 80 24 "wisp exec -t box -- sh -c 'stty -echo -icanon; printf \"up\\033[6n\"; while :; do dd bs=1 count=1 2>/dev/null | tr \"\\033\" ^; done'"
	expect_screen '^up\^\[1;3R'
	keys C-]
	expect_screen 'detached from session'
	no_terminal
	terminal 80 24 "wisp attach box 1"
	expect_screen '^up\^\[1;3R'
	keys 'typed' Enter
	expect_screen 'typed'
	equal "answers on the screen" "$(screen | grep -oF 'R' | wc -l)" 1
	no_terminal
	check stop wisp stop box
	check rm wisp rm box
}
