/* SPDX-License-Identifier: MIT */
/*
 * The user of a tenant's receivers as the system knows it: a shell that runs the forced command, no password,
 * and an sshd that lets in its registered keys and nothing else. What sshd would do is asked of sshd itself
 * (sshd -T -C user=NAME), as root.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <shadow.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/sosie/command.h"

#define ANSWER_MAX (256u << 10)

struct account {
	const char *user;
	void (*found)(void *arg, const struct sosie_finding *finding);
	void *arg;
};

static void found(const struct account *a, const char *code, const char *path, const char *what,
                  const char *mend)
{
	const struct sosie_finding f = {code, path, what, mend, false};

	a->found(a->arg, &f);
}

/* --- the account itself
 * ------------------------------------------------------------------------------------------- */

static void check_shell(const struct account *a, const char *shell)
{
	const char *name = strrchr(shell, '/') ? strrchr(shell, '/') + 1 : shell;
	char what[200], mend[128];

	if (strcmp(name, "nologin") != 0 && strcmp(name, "false") != 0 &&
	    access(*shell ? shell : "/bin/sh", X_OK) == 0)
		return;
	snprintf(what, sizeof(what), "has the shell %.120s, which does not run sshd's forced command", shell);
	snprintf(mend, sizeof(mend), "usermod -s /bin/sh %s", a->user);
	found(a, "user-shell", a->user, what, mend);
}

static void check_password(const struct account *a)
{
	const struct spwd *shadow = getspnam(a->user);
	char mend[128];

	if (!shadow || shadow->sp_pwdp[0] == '*' || shadow->sp_pwdp[0] == '!')
		return;
	snprintf(mend, sizeof(mend), "usermod -p '*' %s", a->user);
	found(a, "user-password", a->user, "has a password, or none at all: a way in beside its keys", mend);
}

/* --- what sshd would do
 * ------------------------------------------------------------------------------------------- */

static const char *sshd_path(void)
{
	static const char *const places[] = {"/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd"};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (access(places[i], X_OK) == 0)
			return places[i];
	return NULL;
}

static size_t read_all(int fd, char *text, size_t size)
{
	size_t len = 0;
	ssize_t n = 1;

	while (len + 1 < size && (n > 0 || (n < 0 && errno == EINTR))) {
		n = read(fd, text + len, size - len - 1);
		len += n > 0 ? (size_t)n : 0;
	}
	text[len] = '\0';
	return len;
}

/* Its output, and what it says when it fails; false when it did not end well. */
static bool run(const char *program, char *const *argv, char *text, size_t size)
{
	static char *no_environment[] = {NULL};
	posix_spawn_file_actions_t actions;
	int pipes[2], status = -1, started;
	pid_t pid;

	text[0] = '\0';
	if (pipe2(pipes, O_CLOEXEC) != 0)
		return false;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
	started = posix_spawn(&pid, program, &actions, NULL, argv, no_environment);
	posix_spawn_file_actions_destroy(&actions);
	close(pipes[1]);
	if (started == 0)
		read_all(pipes[0], text, size);
	close(pipes[0]);
	while (started == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return started == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The value of a key in the answer; false when the key is not there. */
static bool value_of(const char *answer, const char *key, char *dst, size_t size)
{
	const size_t len = strlen(key);

	for (const char *at = answer; *at; at += strcspn(at, "\n"), at += *at == '\n') {
		if (strncasecmp(at, key, len) != 0 || at[len] != ' ')
			continue;
		snprintf(dst, size, "%.*s", (int)strcspn(at + len + 1, "\n"), at + len + 1);
		return true;
	}
	return false;
}

/* What the peer may set in the environment of sosie-receive, which it also sends files to: a loader's or a
 * shell's variable would be a way in. A line for each pattern. */
static void check_environment(const struct account *a, const char *answer)
{
	static const char *const fine[] = {"LANG", "COLORTERM", "NO_COLOR"};
	char pattern[128], what[200];

	for (const char *at = answer; *at; at += strcspn(at, "\n"), at += *at == '\n') {
		bool known = strncasecmp(at, "AcceptEnv ", 10) != 0 || strncmp(at + 10, "LC_", 3) == 0;
		snprintf(pattern, sizeof(pattern), "%.*s", known ? 0 : (int)strcspn(at + 10, "\n"),
		         known ? "" : at + 10);
		for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
			known = known || strcmp(pattern, fine[i]) == 0;
		if (known)
			continue;
		snprintf(what, sizeof(what), "is served by sshd with AcceptEnv %s, set by the peer", pattern);
		found(a, "sshd", a->user, what,
		      "take it out of AcceptEnv, or set AcceptEnv LANG in the Match "
		      "block for receivers");
	}
}

static void check_settings(const struct account *a, const char *answer)
{
	static const struct {
		const char *key, *want;
	} settings[] = {{"DisableForwarding", "yes"},
	                {"PermitTTY", "no"},
	                {"PermitUserRC", "no"},
	                {"PermitUserEnvironment", "no"},
	                {"TrustedUserCAKeys", "none"},
	                {"PermitTunnel", "no"},
	                {"AuthenticationMethods", "publickey"},
	                {"PasswordAuthentication", "no"},
	                {"KbdInteractiveAuthentication", "no"},
	                {"HostbasedAuthentication", "no"},
	                {"AuthorizedKeysCommand", "none"}};
	char is[256], what[400], mend[256];

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		if (!value_of(answer, settings[i].key, is, sizeof(is)))
			snprintf(is, sizeof(is), "not told");
		if (strcasecmp(is, settings[i].want) == 0)
			continue;
		snprintf(what, sizeof(what), "is served by sshd with %s %s, meant is %s", settings[i].key, is,
		         settings[i].want);
		snprintf(mend, sizeof(mend), "%s %s in sshd's %s", settings[i].key, settings[i].want,
		         strcmp(settings[i].key, "PermitUserEnvironment") == 0
		                 ? "global part: it cannot stand in a Match block"
		                 : "Match block for receivers (sosie-setup-standby store STORE writes it)");
		found(a, "sshd", a->user, what, mend);
	}
	if (value_of(answer, "ClientAliveInterval", is, sizeof(is)) && strcmp(is, "0") == 0)
		found(a, "sshd", a->user, "is served by sshd with ClientAliveInterval 0: dead sessions stay",
		      "set ClientAliveInterval 15 in sshd's block for receivers");
	if (value_of(answer, "UsePAM", is, sizeof(is)) && strcmp(is, "no") == 0) {
		const struct spwd *shadow = getspnam(a->user);
		if (shadow && shadow->sp_pwdp[0] == '!')
			found(a, "user-locked", a->user, "counts as locked for an sshd without PAM",
			      "usermod -p '*' of this user");
	}
}

static void check_key_lines(const struct account *a, const char *path, FILE *file)
{
	char line[8192], what[120];
	unsigned number = 0;

	while (fgets(line, sizeof(line), file)) {
		number++;
		if (line[0] == '#' || line[0] == '\n' || strncmp(line, "restrict,command=\"", 18) == 0)
			continue;
		snprintf(what, sizeof(what), "line %u does not begin with restrict,command=\"", number);
		found(a, "sshd-keys", path, what,
		      "remove that line; sosie key add prints what belongs there");
	}
}

/* The file that sshd reads the user's keys from, and who may write it. */
static void check_keys(const struct account *a, const char *answer)
{
	char value[1024] = "", path[1400], mend[3000];
	struct stat st;
	const char *user_at = value;

	(void)value_of(answer, "AuthorizedKeysFile", value, sizeof(value));
	if (value[0] != '/' || strchr(value, ' ') || strstr(value, "%h")) {
		snprintf(path, sizeof(path), "is let in by keys in %.200s, a place of its own", value);
		found(a, "sshd-keys", a->user, path,
		      "AuthorizedKeysFile " AUTHORIZED_KEYS_DIR "/%u in sshd's block for receivers");
		return;
	}
	user_at = strstr(value, "%u");
	if (user_at)
		snprintf(path, sizeof(path), "%.*s%s%s", (int)(user_at - value), value, a->user, user_at + 2);
	else
		snprintf(path, sizeof(path), "%s", value);
	FILE *file = fopen(path, "re");
	if (!file)
		return; /* no key yet */
	if (fstat(fileno(file), &st) != 0 || st.st_uid != 0 || st.st_mode & 0022) {
		snprintf(mend, sizeof(mend), "chown root:root %s && chmod 644 %s", path, path);
		found(a, "sshd-keys", path, "can be changed by others than root", mend);
	}
	check_key_lines(a, path, file);
	fclose(file);
}

static void check_sshd(const struct account *a, const char *config, char *note, size_t size)
{
	static char answer[ANSWER_MAX];
	char program[64], test[] = "-T", match[] = "-C", file[] = "-f", spec[128], path[COMMAND_PATH];
	char *argv[] = {program, test, match, spec, config ? file : NULL, path, NULL};
	const char *sshd = sshd_path();

	if (!sshd || geteuid() != 0) {
		snprintf(note, size, "%s for receivers was not looked at: %s",
		         sshd ? "passwords, and what sshd does" : "what sshd does",
		         sshd ? "that needs root" : "there is no sshd");
		return;
	}
	snprintf(program, sizeof(program), "%s", sshd);
	snprintf(path, sizeof(path), "%s", config ? config : "");
	snprintf(spec, sizeof(spec), "user=%s,host=localhost,addr=127.0.0.1", a->user);
	if (!run(sshd, argv, answer, sizeof(answer))) {
		answer[strcspn(answer, "\r\n")] = '\0';
		snprintf(note, size, "what sshd does for receivers was not looked at: sshd -T says: %.200s",
		         answer);
		return;
	}
	check_settings(a, answer);
	check_environment(a, answer);
	check_keys(a, answer);
}

void accounts_check(const char *user, const char *sshd_config,
                    void (*fn)(void *arg, const struct sosie_finding *finding), void *arg, char *note,
                    size_t size)
{
	const struct account a = {user, fn, arg};
	const struct passwd *pw = getpwnam(user);

	note[0] = '\0';
	if (!pw)
		return; /* the store's check has told */
	check_shell(&a, pw->pw_shell);
	check_password(&a);
	check_sshd(&a, sshd_config, note, size);
}
