
# What the script above takes from the package bash-completion, for shells without it.
__provium_init_completion()
{
    COMPREPLY=() words=() cword=0
    local i j=-1 joins="" part
    for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
        part=${COMP_WORDS[i]}
        # The shell splits at = and : what belongs to one word.
        if ((j > 0)) && [[ -n $joins || ( -n $part && -z ${part//[=:]/} ) ]]; then
            words[j]+=$part
        else
            words[++j]=$part
        fi
        joins=""
        if [[ -n $part && -z ${part//[=:]/} ]]; then
            joins=yes
        fi
        if ((i == COMP_CWORD)); then
            cword=$j
        fi
    done
    cur=${words[cword]}
    prev=""
    if ((cword > 0)); then
        prev=${words[cword - 1]}
    fi
}

if ! declare -F _filedir >/dev/null; then
    _filedir()
    {
        local IFS=$'\n'
        compopt -o filenames 2>/dev/null
        if [[ ${1-} == -d ]]; then
            COMPREPLY+=($(compgen -d -- "$cur"))
        elif [[ -n ${1-} ]]; then
            COMPREPLY+=($(compgen -d -- "$cur") $(compgen -f -X "!*.@($1)" -- "$cur"))
        else
            COMPREPLY+=($(compgen -f -- "$cur"))
        fi
    }
fi
