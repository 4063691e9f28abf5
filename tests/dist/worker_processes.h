#pragma once
// Starts the processes of a group as a launcher would.
#include <arpa/inet.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace retrosparse::dist::testing {

/// Holds a TCP port of this machine for as long as it lives.
class Listener {
 public:
  Listener() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    socklen_t size = sizeof(address);
    if (bind(socket_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(socket_, 1) != 0 ||
        getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw std::system_error(errno, std::generic_category(), "no free port");
    }
    port_ = ntohs(address.sin_port);
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() { close(socket_); }

  int port() const { return port_; }

 private:
  int socket_;
  int port_ = 0;
};

/// A port that nothing listens at.
inline int free_port() {
  const Listener listener;
  return listener.port();
}

/// A running worker program, found beside this test's binary.
class WorkerProcess {
 public:
  WorkerProcess(const std::vector<std::string>& arguments, const std::map<std::string, std::string>& variables,
                const std::string& program = "dist_worker") {
    const std::string binary = (std::filesystem::read_symlink("/proc/self/exe").parent_path() / program).string();
    std::string pattern = (std::filesystem::temp_directory_path() / "worker_output_XXXXXX").string();
    const int output = mkstemp(pattern.data());
    output_path_ = pattern;

    std::vector<std::string> words = {binary};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<std::string> settings;
    for (char** entry = environ; *entry != nullptr; ++entry) {
      settings.emplace_back(*entry);
    }
    for (const auto& [name, value] : variables) {
      settings.push_back(name + "=" + value);
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    const int error =
        posix_spawn(&process_, binary.c_str(), &actions, nullptr, pointers(words).data(), pointers(settings).data());
    posix_spawn_file_actions_destroy(&actions);
    close(output);
    if (error != 0) {
      throw std::system_error(error, std::generic_category(), binary);
    }
  }
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;
  ~WorkerProcess() {
    wait();
    std::filesystem::remove(output_path_);
  }

  /// Waits for its end, two minutes at most. Returns the exit code, or 128 + the number of the signal that ended it.
  int wait() {
    if (process_ != 0) {
      int status = 0;
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
      while (waitpid(process_, &status, WNOHANG) == 0) {
        if (std::chrono::steady_clock::now() > deadline) {
          kill(process_, SIGKILL);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
      exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      process_ = 0;
    }
    return exit_code_;
  }

  /// What it has written to stdout and stderr.
  std::string output() const {
    std::stringstream text;
    text << std::ifstream(output_path_).rdbuf();
    return text.str();
  }

 private:
  static std::vector<char*> pointers(std::vector<std::string>& strings) {
    std::vector<char*> result;
    for (std::string& string : strings) {
      result.push_back(string.data());
    }
    result.push_back(nullptr);
    return result;
  }

  pid_t process_ = 0;
  int exit_code_ = -1;
  std::string output_path_;
};

}  // namespace retrosparse::dist::testing
