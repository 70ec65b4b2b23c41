/* SPDX-License-Identifier: MIT */
/*
 * The standby's forced command: one session of one key over standard input and output. authorized_keys names
 * store, tenant and key; what the source asked for (SSH_ORIGINAL_COMMAND) is not looked at. An error is one
 * line on standard error: sshd carries it to the source, which shows it.
 *
 * It confines itself before it reads a byte of the peer (sosie_inbox_confine), and serves nobody when it
 * cannot. That the kernel has no Landlock is not told here, where the source would hear it: "sosie store
 * check" tells it to the operator.
 */
#include "sosie/message.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/common/version.h"

#define SOFTWARE "sosie " SOSIE_VERSION
#define HELLO_MS 30000
#define IDLE_MS 300000
#define STALL_MS 300000

static bool stop;

struct arguments {
	const char *store, *tenant, *key;
	struct sosie_name groups[SOSIE_INBOX_GROUPS_MAX];
	unsigned group_count; /* 0: all */
	bool done;            /* help or version was printed */
};

static void on_signal(int sig)
{
	(void)sig;
	stop = true;
}

static void print_help(void)
{
	puts("Usage: sosie-receive --store DIR --tenant NAME --key KEYID\n"
	     "Takes uploads of one source into a store. Runs as the forced command of a key,\n"
	     "started by sshd; in authorized_keys, on one line:\n"
	     "  restrict,command=\"sosie-receive --store DIR --tenant NAME --key KEYID\"\n"
	     "  ssh-ed25519 AAAA...\n"
	     "\n"
	     "  --store DIR     the store\n"
	     "  --tenant NAME   the tenant that the key belongs to\n"
	     "  --key KEYID     the id of the key: 16 hexadecimal digits\n"
	     "  --group GROUP   the key is for this group only; may be given 64 times\n"
	     "  --help          this text\n"
	     "  --version       the release");
}

static int add_group(struct arguments *a, const char *name, struct sosie_err *err)
{
	if (a->group_count == SOSIE_INBOX_GROUPS_MAX)
		return sosie_err_set(err, SOSIE_EUSAGE, "--group may be given %u times",
		                     SOSIE_INBOX_GROUPS_MAX);
	return sosie_name_set(&a->groups[a->group_count++], SOSIE_NAME_GROUP, name, err);
}

static int arguments_parse(int argc, char **argv, struct arguments *a, struct sosie_err *err)
{
	static const struct option options[] = {
	        {"store", required_argument, NULL, 's'},
	        {"tenant", required_argument, NULL, 't'},
	        {"key", required_argument, NULL, 'k'},
	        {"group", required_argument, NULL, 'g'},
	        {"help", no_argument, NULL, 'h'},
	        {"version", no_argument, NULL, 'v'},
	        {NULL, 0, NULL, 0},
	};
	int c, rc = 0;
	opterr = 0;
	while (!rc && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			a->store = optarg;
		else if (c == 't')
			a->tenant = optarg;
		else if (c == 'k')
			a->key = optarg;
		else if (c == 'g')
			rc = add_group(a, optarg, err);
		else if (c == 'h' || c == 'v')
			a->done = true;
		else
			return sosie_err_set(err, SOSIE_EUSAGE, "an option is not known or lacks its value");
		if (c == 'h')
			print_help();
		if (c == 'v')
			puts("sosie-receive " SOSIE_VERSION);
	}
	if (rc)
		return rc;
	if (!a->done && (optind < argc || !a->store || !a->tenant || !a->key))
		return sosie_err_set(err, SOSIE_EUSAGE,
		                     "--store, --tenant and --key are needed; --group may be given");
	return 0;
}

static int receive(const struct arguments *a, struct sosie_err *err)
{
	struct sosie_serve_options options = {.clock = sosie_clock_real(),
	                                      .software = SOFTWARE,
	                                      .hello_ms = HELLO_MS,
	                                      .idle_ms = IDLE_MS,
	                                      .stop = &stop};
	struct sosie_io *io = NULL;
	struct sosie_inbox *inbox = NULL;
	struct sosie_channel *ch = NULL;
	int rc = sosie_inbox_confine(a->store, a->tenant, err);
	if (!rc)
		rc = sosie_io_posix(&io, err);
	if (!rc)
		rc = sosie_stdio_channel(0, 1, STALL_MS, &ch, err);
	if (!rc) {
		rc = sosie_inbox_open(io, options.clock, a->store, a->tenant, a->key, &inbox, err);
		if (rc && rc != -SOSIE_EUSAGE)
			sosie_serve_refusal(ch, &options, err);
	}
	if (!rc)
		sosie_inbox_restrict(inbox, a->groups, a->group_count);
	if (!rc)
		rc = sosie_serve(ch, inbox, &options, err);
	sosie_channel_close(ch);
	sosie_inbox_close(inbox);
	sosie_io_free(io);
	return rc;
}

static void signals_set(void)
{
	struct sigaction act = {.sa_handler = on_signal};
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGHUP, &act, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
	struct arguments a = {0};
	struct sosie_err err;
	char line[1024];
	sosie_err_clear(&err);
	umask(0007); /* what it makes is the keeper's too, by the group */
	signals_set();
	int rc = arguments_parse(argc, argv, &a, &err);
	if (!rc && !a.done)
		rc = receive(&a, &err);
	if (!rc)
		return 0;
	fprintf(stderr, "sosie-receive: %s\n", sosie_err_line(&err, line, sizeof line));
	return sosie_code_exit(err.code);
}
