/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define TTY_GROUP 5 /* "tty" in every distribution: with mode 0620, write(1) works */

/* So that erasing a character erases all of its bytes. */
static void assume_utf8(int slave)
{
	struct termios settings;
	if (tcgetattr(slave, &settings) < 0)
		return;
	settings.c_iflag |= IUTF8;
	tcsetattr(slave, TCSANOW, &settings);
}

static int set_up(int master, uint16_t rows, uint16_t cols, uid_t uid, int *slave)
{
	int unlock = 0;
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return -errno;
	/* By descriptor, not by /dev/pts/N: the image may have anything mounted there. */
	*slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0)
		return -errno;
	/* A terminal is opened as its user's by what runs in it (/dev/tty, /dev/pts/N): sudo, su and tmux do. */
	if (uid && fchown(*slave, uid, TTY_GROUP) < 0)
		return -errno;
	assume_utf8(*slave);
	agent_pty_resize(master, rows, cols);
	return 0;
}

int agent_pty_open(uint16_t rows, uint16_t cols, uid_t uid, int *master, int *slave)
{
	*slave = -1;
	*master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (*master < 0)
		return -errno;
	int error = set_up(*master, rows, cols, uid, slave);
	if (!error)
		return 0;
	if (*slave >= 0)
		close(*slave);
	close(*master);
	*master = *slave = -1;
	return error;
}

void agent_pty_resize(int master, uint16_t rows, uint16_t cols)
{
	struct winsize size = {.ws_row = rows ? rows : PTY_ROWS, .ws_col = cols ? cols : PTY_COLS};
	ioctl(master, TIOCSWINSZ, &size);
}

size_t agent_pty_end_of_file(int master, bool in_line, uint8_t to[2])
{
	struct termios settings;
	if (tcgetattr(master, &settings) < 0 || settings.c_cc[VEOF] == _POSIX_VDISABLE)
		return 0;
	to[0] = to[1] = settings.c_cc[VEOF];
	return in_line && settings.c_lflag & ICANON ? 2 : 1;
}
