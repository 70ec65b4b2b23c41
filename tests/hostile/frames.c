/* SPDX-License-Identifier: MIT */
/*
 * A hostile source on a real connection, for tests/scenarios/hostile.sh: starts the command that is given
 * (ssh …) with its standard input and output on pipes, and says what a source must not.
 *
 *   frames MODE GROUP COMMAND…
 *     garbage   64 KiB of noise, then end of input
 *     giant     hello, then a frame that says 4 GiB, and 64 KiB of it
 *     drip      three bytes of a frame, then nothing; its input is closed when a byte comes on our own
 *     sessions  50 commands at once, each says hello and begins an upload; all are killed then
 *     killed    half a segment, then the command is killed
 *     wrong     every type of answer, sent by the source, in a session of its own
 *
 * The last line is "ended MODE: N sessions, M welcomes": what the receiver made of it is the scenario's to
 * see.
 */
#include "sosie/message.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SESSIONS 50u
#define NOISE (64u << 10)
#define STALL_MS 20000

struct session {
	pid_t pid;
	int in, out; /* ours: its input, its output */
	struct sosie_channel *ch;
	struct sosie_wire *wire;
};

static unsigned begun, welcomes;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void run(char **command, int in, int out)
{
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0)
		die("dup2");
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	execvp(command[0], command);
	die(command[0]);
}

static void start(struct session *s, char **command)
{
	int in[2], out[2];
	if (pipe(in) || pipe(out))
		die("pipe");
	s->pid = fork();
	if (s->pid < 0)
		die("fork");
	if (s->pid == 0)
		run(command, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	s->in = in[1];
	s->out = out[0];
	if (sosie_stdio_channel(s->out, s->in, STALL_MS, &s->ch, NULL) ||
	    sosie_wire_new(s->ch, &s->wire, NULL))
		die("channel");
	begun++;
}

/* What it says until it ends is read away: nobody is to hang on us. */
static void end(struct session *s, int signal)
{
	char buf[4096];
	int status;
	sosie_wire_free(s->wire);
	sosie_channel_close(s->ch);
	close(s->in);
	if (signal)
		kill(s->pid, signal);
	while (read(s->out, buf, sizeof(buf)) > 0)
		;
	close(s->out);
	while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR)
		;
}

static void put(struct session *s, const void *bytes, size_t len)
{
	(void)sosie_channel_send(s->ch, bytes, len, NULL); /* it may have ended: that is what is wanted */
}

static bool answer(struct session *s, struct sosie_message *m)
{
	bool got = false;
	return sosie_wire_recv(s->wire, m, &got, STALL_MS, NULL) == 0 && got;
}

static bool hello(struct session *s)
{
	struct sosie_message m = {.type = SOSIE_MSG_HELLO, .request = 1};
	m.hello.lowest = m.hello.highest = SOSIE_PROTOCOL_VERSION;
	m.hello.capabilities = 7;
	snprintf(m.hello.software, sizeof(m.hello.software), "frames");
	bool ok = sosie_wire_send(s->wire, &m, NULL) == 0 && answer(s, &m) && m.type == SOSIE_MSG_WELCOME;
	welcomes += ok;
	return ok;
}

static bool begin(struct session *s, const char *group, struct sosie_upload_id *id)
{
	struct sosie_message m = {.type = SOSIE_MSG_BEGIN, .request = 2};
	snprintf(m.begin.group.s, sizeof(m.begin.group.s), "%s", group);
	m.begin.kind = SOSIE_UPLOAD_SEGMENT;
	m.begin.epoch = 1;
	if (sosie_wire_send(s->wire, &m, NULL) || !answer(s, &m) || m.type != SOSIE_MSG_UPLOAD)
		return false;
	*id = m.upload.id;
	sosie_message_fini(&m);
	return true;
}

static void noise(uint8_t *bytes, size_t len)
{
	uint32_t x = 20261122;
	for (size_t i = 0; i < len; i++) {
		x = x * 1664525u + 1013904223u;
		bytes[i] = (uint8_t)(x >> 24);
	}
}

static void garbage(const char *group, char **command)
{
	static uint8_t bytes[NOISE];
	struct session s;
	(void)group;
	noise(bytes, sizeof(bytes));
	start(&s, command);
	put(&s, bytes, sizeof(bytes));
	end(&s, 0);
}

static void giant(const char *group, char **command)
{
	static uint8_t bytes[NOISE] = {0xff, 0xff, 0xff, 0xff, SOSIE_MSG_DATA, 0, 0, 0, 2};
	struct session s;
	(void)group;
	start(&s, command);
	if (hello(&s))
		put(&s, bytes, sizeof(bytes));
	end(&s, 0);
}

static void drip(const char *group, char **command)
{
	struct session s;
	char byte;
	(void)group;
	start(&s, command);
	if (hello(&s))
		put(&s, "\0\0\0", 3);
	printf("dripping\n");
	fflush(stdout);
	if (read(0, &byte, 1) < 0)
		die("read");
	end(&s, 0);
}

static void sessions(const char *group, char **command)
{
	static struct session all[SESSIONS];
	struct sosie_upload_id id;
	for (unsigned i = 0; i < SESSIONS; i++)
		start(&all[i], command);
	for (unsigned i = 0; i < SESSIONS; i++)
		if (hello(&all[i]))
			(void)begin(&all[i], group, &id);
	for (unsigned i = 0; i < SESSIONS; i++)
		end(&all[i], SIGKILL);
}

static void killed(const char *group, char **command)
{
	static uint8_t bytes[NOISE];
	struct sosie_message m = {.type = SOSIE_MSG_PART, .request = 3};
	struct session s;
	noise(bytes, sizeof(bytes));
	start(&s, command);
	if (!hello(&s) || !begin(&s, group, &m.part.id))
		die("no upload");
	snprintf(m.part.group.s, sizeof(m.part.group.s), "%s", group);
	if (sosie_wire_send(s.wire, &m, NULL) || !answer(&s, &m) || m.type != SOSIE_MSG_OK)
		die("no part");
	m = (struct sosie_message){.type = SOSIE_MSG_DATA, .request = 4, .data = {bytes, sizeof(bytes)}};
	(void)sosie_wire_send(s.wire, &m, NULL);
	end(&s, SIGKILL);
}

static void wrong(const char *group, char **command)
{
	static const enum sosie_message_type types[] = {
	        SOSIE_MSG_WELCOME, SOSIE_MSG_STATEMENT, SOSIE_MSG_UPLOAD, SOSIE_MSG_OK,    SOSIE_MSG_ACK,
	        SOSIE_MSG_DURABLE, SOSIE_MSG_VERDICT,   SOSIE_MSG_BYTES,  SOSIE_MSG_ERROR,
	};
	(void)group;
	for (unsigned i = 0; i < sizeof(types) / sizeof(*types); i++) {
		struct sosie_message m = {.type = types[i], .request = 9};
		struct session s;
		if (types[i] == SOSIE_MSG_WELCOME)
			snprintf(m.welcome.tenant.s, sizeof(m.welcome.tenant.s), "acme");
		if (types[i] == SOSIE_MSG_ERROR)
			m.error.code = SOSIE_EPROTO;
		start(&s, command);
		if (hello(&s)) {
			(void)sosie_wire_send(s.wire, &m, NULL);
			bool told = answer(&s, &m) && m.type == SOSIE_MSG_ERROR;
			if (!told)
				die("an answer's type is taken from a source");
		}
		end(&s, 0);
	}
}

static const struct {
	const char *name;
	void (*run)(const char *group, char **command);
} modes[] = {{"garbage", garbage},   {"giant", giant},   {"drip", drip},
             {"sessions", sessions}, {"killed", killed}, {"wrong", wrong}};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	for (unsigned i = 0; argc > 3 && i < sizeof(modes) / sizeof(*modes); i++)
		if (strcmp(argv[1], modes[i].name) == 0) {
			modes[i].run(argv[2], argv + 3);
			printf("ended %s: %u sessions, %u welcomes\n", argv[1], begun, welcomes);
			return 0;
		}
	fprintf(stderr, "usage: frames garbage|giant|drip|sessions|killed|wrong GROUP COMMAND...\n");
	return 2;
}
