/* SPDX-License-Identifier: Apache-2.0 */
/* wisp cp. */
#include "tests/unit/test_cli.h"

static void files_are_copied(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "mkdir -p src/sub guest back; echo a >src/a; chmod 751 src/a; ln -s a src/l; ln src/a src/h; "
	       "head -c 300000 /dev/urandom >src/sub/big; touch -d 2001-01-01 src/sub/big; "
	       "truncate -s 64M src/sparse; echo middle | dd of=src/sparse bs=1 seek=30000001 conv=notrunc "
	       "2>/dev/null; "
	       "echo long >src/$(printf 'n%.0s' $(seq 150)); printf 'x\\ny' >\"src/new\nline\"; create -q -n box");
	expect(&c, "wisp cp src box:$DIR/guest && diff -r --no-dereference src guest/src && echo same", 0, "same\n");
	expect(&c, "[ guest/src/a -ef guest/src/h ] && stat -c '%a' guest/src/a && stat -c %Y guest/src/sub/big", 0,
	        "751\n978307200\n");
	expect(&c, "[ $(du -k guest/src/sparse | cut -f1) -lt 100 ] && echo sparse", 0, "sparse\n");
	expect(&c,
	        "ln -s src/sparse hole; wisp cp hole box:$DIR/guest && cmp src/sparse guest/hole && stat -c %F "
	        "guest/hole && rm guest/hole",
	        0, "regular file\n");
	expect(&c, "wisp cp box:$DIR/guest/src back && diff -r --no-dereference src back/src && echo same", 0,
	        "same\n");
	expect(&c, "[ back/src/a -ef back/src/h ] && stat -c '%a' back/src/a && stat -c %Y back/src/sub/big", 0,
	        "751\n978307200\n");
	expect(&c, "[ $(du -k back/src/sparse | cut -f1) -lt 100 ] && echo sparse", 0, "sparse\n");
	expect(&c, "wisp cp src/a box:$DIR/guest/name && cat guest/name && wisp cp box:$DIR/guest/name . && cat name",
	        0, "a\na\n");
	expect(&c, "echo in | wisp cp - box:$DIR/guest/p && wisp cp box:$DIR/guest/p -", 0, "in\n");
	expect(&c,
	        "wisp cp src/. box:$DIR/guest/all 2>/dev/null || mkdir guest/all && wisp cp src/. box:$DIR/guest/all "
	        "&& ls "
	        "guest/all/sub",
	        0, "big\n");
	expect(&c, "wisp cp src/a src/h box:$DIR/guest && ls guest", 0, "a\nall\nh\nname\np\nsrc\n");
	expect_error(&c, "wisp cp nothing box:/tmp", 125, "nothing");
	expect_error(&c, "wisp cp box:/no/such .", 125, "/no/such");
	expect_error(&c, "wisp cp a b", 125, "NAME:PATH");
	expect_error(&c, "wisp cp box:/a box:/b", 125, "NAME:PATH");
	expect_error(&c, "wisp cp src/a src/h box:$DIR/guest/name", 125, "not a directory");
	expect_error(&c, "wisp cp nobox:/x .", 125, "no sandbox");
	/* Names with C0, C1, DEL, broken and whole UTF-8. */
	expect_error(&c, "wisp cp \"$(printf 'no\\033[31m\\302\\233m\\233\\177\\tx\\303\\251')\" box:/tmp", 125,
	        "no?[31m??m?? x\303\251:");
	expect_error(&c, "wisp cp box:/no/\"$(printf 'no\\033\\302\\2331m')\" .", 125, "/no/no???1m:");
	sh(&c, "wisp rm -f box");
	end(&c);
}

/* What is no plain file is written to in place, as cp(1) does, or refused; it is never removed. */
static void cp_writes_through(void)
{
	static struct cli c;
	static const struct {
		const char *kind; /* what makes the destination */
		int code;         /* of copying the file f to it */
		const char *after;
	} cases[] = {
	        {"mknod d c 1 3", 0, "character special file"},
	        {"echo old longer text >t; ln -s t d", 0, "symbolic link"},
	        {"ln -s /dev/null d", 0, "symbolic link"},
	        {"ln -s nowhere d", 125, "symbolic link"},
	        {"mkfifo d; cat d >t &", 0, "fifo"},
	        {"echo old >d; ln d t", 0, "regular file"},
	};
	if (!begin(&c))
		return;
	if (geteuid() != 0) {
		test_skipped = "only root makes device nodes";
		end(&c);
		return;
	}
	sh(&c, "create -q -n box; mkdir s; echo new >f; echo x >s/x; ln -s /tmp l");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (int in = 0; in < 2; in++) {
			char script[512], out[64];
			snprintf(script, sizeof(script),
			        "rm -rf d t; %s\n wisp cp %s; r=$?; wait; stat -c %%F d; [ ! -e t ] || cat t; exit $r",
			        cases[i].kind, in ? "f box:$DIR/d" : "box:$DIR/f d");
			snprintf(out, sizeof(out), "%s\n%s", cases[i].after,
			        strstr(cases[i].kind, "ln d")                               ? "old\n"
			        : strstr(cases[i].kind, " t") || strchr(cases[i].kind, '>') ? "new\n"
			                                                                    : "");
			expect(&c, script, cases[i].code, out);
		}
	}
	/* A directory or a link takes the place of no device; a device inside a tree stays, too. */
	sh(&c, "rm -rf d t; mknod d c 1 3; mkdir o; mkdir o/s; mknod o/s/x c 1 3");
	expect_error(&c, "wisp cp box:$DIR/s d", 125, "d is not a regular file");
	expect_error(&c, "wisp cp box:$DIR/l d", 125, "d is not a regular file");
	expect_error(&c, "wisp cp box:$DIR/s o", 125, "s/x exists and is not a file");
	expect_error(&c, "wisp cp s box:$DIR/d", 125, "not a directory");
	/* A directory takes the place of no file, nor a file that of a directory. */
	expect_error(
	        &c, "echo old >p; wisp cp s box:$DIR/p", 125, "p is not a directory in the sandbox; remove it first");
	expect_error(&c, "wisp cp box:$DIR/s p", 125, "cannot create the directory p: File exists");
	expect_error(
	        &c, "mkdir q q/f; wisp cp f box:$DIR/q", 125, "q/f is a directory in the sandbox; remove it first");
	expect_error(&c, "wisp cp box:$DIR/f q", 125, "f exists and is not a file");
	expect(&c, "cat p; stat -c %F q/f", 0, "old\ndirectory\n");
	expect(&c, "stat -c %F d o/s/x; ls -A o/s", 0, "character special file\ncharacter special file\nx\n");
	/* In a tree, a link is replaced, and what it leads to stays. */
	expect(&c, "rm o/s/x; ln -s ../../t o/s/x; echo t >t; wisp cp box:$DIR/s o && cat t o/s/x", 0, "t\nx\n");
	expect(&c,
	        "wisp cp box:$DIR/f /dev/stdout | cat; wisp cp box:$DIR/f /dev/stdout; wisp cp box:$DIR/f /dev/fd/1 "
	        ">t; cat t",
	        0, "new\nnew\n");
	sh(&c, "wisp rm -f box");
	end(&c);
}

static void cp_trusts_no_size(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "create -q -n box; mkdir t");
	expect(&c, "wisp cp box:/proc/version v && cmp v /proc/version && echo same", 0, "same\n");
	expect(&c,
	        "wisp cp box:/sys/kernel/mm/transparent_hugepage/enabled e && "
	        "cmp e /sys/kernel/mm/transparent_hugepage/enabled && echo same",
	        0, "same\n");
	expect(&c, "wisp cp /proc/version box:$DIR/w && cmp w /proc/version && echo same", 0, "same\n");
	expect(&c, "wisp cp box:/proc/version /dev/stdout | cmp - /proc/version && echo same", 0, "same\n");
	expect_error(&c, "wisp cp box:/proc/sys t", 125, "one by one");
	/* A link hides that the file is of /proc; sizes in /sys are 4096, or 0. */
	expect(&c, "ln -s /proc p; wisp cp box:$DIR/p/version x && cmp x /proc/version && echo same", 0, "same\n");
	expect(&c,
	        "for f in /sys/kernel/mm/transparent_hugepage/enabled $(ls /sys/fs/cgroup/cgroup.controllers); do "
	        "wisp cp $f box:$DIR/y && cmp y $f && echo same; done | uniq",
	        0, "same\n");
	/* A plain empty file keeps its mode and time. */
	expect(&c, "touch -d @978307200 z; chmod 751 z; wisp cp box:$DIR/z t && stat -c '%a %Y %s' t/z", 0,
	        "751 978307200 0\n");
	sh(&c, "wisp rm -f box");
	end(&c);
}

/* A user of the guest could not write into a directory, or a file with holes, that is read-only already. */
static void cp_sets_folder_modes_last(void)
{
	static struct cli c;
	if (!begin(&c))
		return;
	sh(&c, "mkdir -p bin src/a/b guest back; echo f >src/a/b/f; truncate -s 2M src/a/b/holes; chmod 444 src/a/b/*; "
	       "touch -d @978307200 src/a/b src/a; "
	       "chmod 555 src/a/b src/a;"
	       "ln -s $(command -v busybox || command -v tar) bin/tar; chmod 711 .; chmod 777 guest; create -q -n box "
	       "-e PATH=$DIR/bin:$PATH");
	expect(&c,
	        "wisp cp $([ $(id -u) != 0 ] || echo -u nobody) src box:$DIR/guest; echo $?; cat guest/src/a/b/f; stat "
	        "-c '%a %Y' guest/src/a guest/src/a/b; stat -c '%a %s' guest/src/a/b/*",
	        0, "0\nf\n555 978307200\n555 978307200\n444 2\n444 2097152\n");
	/* Root without its right to write into any directory, to whom modes matter as to anybody else. */
	expect(&c,
	        "$([ $(id -u) != 0 ] || echo setpriv --bounding-set=-dac_override) \"$WISP\" cp "
	        "box:$DIR/guest/src back; echo $?; stat -c '%a %Y' back/src/a back/src/a/b",
	        0, "0\n555 978307200\n555 978307200\n");
	sh(&c, "chmod -R u+w .; wisp rm -f box");
	end(&c);
}

/*
 * A file that shrinks or grows while it is read. The guest's tar, or dd for a file with holes, changes it before it
 * takes the data, of which more is left than anything on the way can hold.
 */
static void cp_notices_changes(void)
{
	static struct cli c;
	static const struct {
		const char *change, *how;
		bool sparse;
	} cases[] = {
	        {"truncate -s 1000000 f", "shrank", false},
	        {"echo more >>f", "grew", false},
	        {"truncate -s 1000000 f", "shrank", true},
	        {"echo more >>f", "grew", true},
	};
	if (!begin(&c))
		return;
	sh(&c, "mkdir bin to; head -c 2000000 /dev/urandom >data; echo other >other;"
	       "printf 'cd $DIR; [ -e holes ] || { dd bs=1 count=512 of=head 2>/dev/null; sh ./change; : >change; }\n"
	       "cat head - | %s \"$@\"\n' $(command -v tar) >bin/tar;"
	       "printf 'cd $DIR; [ ! -e holes ] || { sh ./change; : >change; }\nexec %s \"$@\"\n' $(command -v dd) "
	       ">bin/dd;"
	       "sed -i '1i#!/bin/sh' bin/*; chmod +x bin/*; create -q -n box -e PATH=$DIR/bin:$PATH -e DIR=$DIR");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char script[512], words[64];
		snprintf(script, sizeof(script),
		        "rm -rf to/* holes; cat data >f; : >head; %s; echo '%s' >change; wisp cp f other box:$DIR/to",
		        cases[i].sparse ? "truncate -s 64M f; : >holes" : ":", cases[i].change);
		snprintf(words, sizeof(words), "wisp: f %s while it was copied; copy it again", cases[i].how);
		expect_error(&c, script, 125, words);
		/* The copy has the size that the file had, with zeros for what is gone; the next file follows. */
		int kept = cases[i].how[0] == 's' ? 1000000 : 2000000;
		snprintf(script, sizeof(script),
		        "stat -c %%s to/f; cat to/other; cmp -n %d to/f data; tail -c +%d to/f | tr -d '\\0' | wc -c",
		        kept, kept + 1);
		expect(&c, script, 0, cases[i].sparse ? "67108864\nother\n0\n" : "2000000\nother\n0\n");
	}
	sh(&c, "wisp rm -f box");
	end(&c);
}

/* Interrupted, cp ends its program in the guest, and leaves no part of a file. */
static void cp_is_interrupted(void)
{
	static struct cli c;
	static const char *const signals[] = {"INT", "TERM", "HUP"};
	if (!begin(&c))
		return;
	/* This tar sends one whole entry and a part of the next, and says so; it then waits to be killed. */
	sh(&c, "mkdir -p bin into t/src; cd t; echo a >src/a; head -c 100000 /dev/urandom >src/b; tar -cf ../b.tar "
	       "--no-recursion src src/a src/b; cd ..;"
	       "printf '#!/bin/sh\necho $$ >$DIR/pid.new; mv $DIR/pid.new $DIR/pid; head -c 9000 $DIR/b.tar; exec "
	       "sleep 1000\n' >bin/tar; chmod +x bin/tar;"
	       "cp bin/tar bin/cat; create -q -n box -e PATH=$DIR/bin:$PATH -e DIR=$DIR");
	for (size_t i = 0; i < 3; i++) {
		char script[700], out[64];
		snprintf(script, sizeof(script),
		        "rm -rf pid into/src; env --default-signal=INT \"$WISP\" cp box:/src into & pid=$!;"
		        "until [ -e pid ] && ls -A into/src 2>/dev/null | grep -q wisp-cp || ! kill -0 $pid; do sleep "
		        "0.02; done;"
		        "kill -%s $pid; wait $pid; echo $?; ls -A into/src;"
		        "n=0; while kill -0 $(/bin/cat pid) 2>/dev/null && [ $n -lt 500 ]; do sleep 0.02; n=$((n+1)); "
		        "done; [ $n -lt 500 ] && echo gone",
		        signals[i]);
		snprintf(out, sizeof(out), "%d\na\ngone\n", i == 0 ? 130 : i == 1 ? 143 : 129);
		expect(&c, script, 0, out);
	}
	/* A reader that has left: cat in the guest ends, too. One that leaves later is noticed by the next write. */
	expect(&c,
	        "rm -f pid; { until [ -e left ]; do sleep 0.02; done; wisp cp box:/src -; echo $? >code; } |"
	        "sh -c 'exec <&-; echo >left'; /bin/cat code",
	        0, "141\n");
	sh(&c, "wisp rm -f box");
	end(&c);
}

/* What the guest's tar sends is not trusted. A tar that lies is put in its place by PATH. */
static void hostile_archives(void)
{
	static struct cli c;
	static const struct {
		const char *name;  /* of the archive */
		const char *names; /* how tar renames what it holds */
		const char *holds;
		const char *error; /* NULL: the archive is taken */
	} cases[] = {
	        {"up", "s,^src/f$,src/../../victim/f,SH", "src src/f", "names a file outside"},
	        {"absolute", "s,^src/f$,$DIR/victim/f,SH", "src src/f", "names a file outside"},
	        {"other", "s,^src/f$,own,SH", "src src/f", "names a file outside"},
	        {"through", "s,^src/f$,src/out/f,SH", "src src/out src/f", "src/out/f, or a link in its place"},
	        {"before", "s,^src/f$,src/old/f,SH", "src src/f", "src/old/f, or a link in its place"},
	        {"inside", "s,^src/f$,src/in/f,SH", "src src/d src/in src/f", "src/in/f, or a link in its place"},
	        {"hard", "s,^src/f$,own,RSh", "src src/f src/h", "cannot create the hard link src/h"},
	        {"hard_up", "s,^src/f$,../victim/f,RSh", "src src/f src/h", "cannot create the hard link src/h"},
	        {"directory", "s,^src/d$,src/old,SH", "src src/d", "cannot create the directory src/old"},
	        {"cut", "", "src src/f", "the archive ends early"},
	        {"random", "", "src src/f", "the archive is broken"},
	        {"modes", "", "src src/f src/p", NULL},
	};
	if (!begin(&c))
		return;
	sh(&c, "mkdir -p bin t/src/d; echo evil >t/src/f; chmod 6755 t/src/f; cd t/src; ln f h; ln -s ../../victim out;"
	       "ln -s d in; mkfifo p; cd ../..; printf '#!/bin/sh\ncat $DIR/a.tar\n' >bin/tar; chmod +x bin/tar;"
	       "create -q -n box -e PATH=$DIR/bin:$PATH -e DIR=$DIR");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char script[700];
		snprintf(script, sizeof(script),
		        "rm -rf into victim; mkdir -p into/src victim; echo safe >victim/f; echo own >into/own;"
		        "ln -s ../../victim into/src/old; tar -P -C t -cf a.tar --no-recursion --transform \"%s\" %s;"
		        "case %s in cut) truncate -s 1500 a.tar;; random) head -c 2000 /dev/urandom >a.tar;; esac;"
		        "wisp cp box:/src into",
		        cases[i].names, cases[i].holds, cases[i].name);
		if (cases[i].error) {
			expect_error(&c, script, 125, cases[i].error);
		} else {
			expect(&c, script, 0, "");
			expect(&c, "stat -c %a into/src/f; [ -e into/src/p ] || echo skipped", 0, "755\nskipped\n");
		}
		expect(&c, "ls victim; stat -c %h victim/f into/own; cat victim/f into/own", 0, "f\n1\n1\nsafe\nown\n");
	}
	sh(&c, "wisp rm -f box");
	end(&c);
}

int main(int argc, char **argv)
{
	fake_vmm_main(argc, argv);
	static const struct test_case cases[] = {
	        {"files_are_copied", files_are_copied},
	        {"cp_writes_through", cp_writes_through},
	        {"cp_trusts_no_size", cp_trusts_no_size},
	        {"cp_sets_folder_modes_last", cp_sets_folder_modes_last},
	        {"cp_notices_changes", cp_notices_changes},
	        {"cp_is_interrupted", cp_is_interrupted},
	        {"hostile_archives", hostile_archives},
	};
	return test_main("cli_cp", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
